"""A command as a table: its name, its help, its arguments, and the function that runs it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from docid.cli.output import Output

Arguments = argparse.Namespace


class UsageError(Exception):
    """Wrong usage that argparse cannot see."""


class FromVariable(str):
    """A default that comes from an environment variable, so that an error can say so."""

    __slots__ = ()


@attrs.frozen
class Argument:
    """One argument, as `add_argument` takes it; `variable` names the environment variable with its default."""

    names: tuple[str, ...]
    options: dict[str, Any]
    variable: str = ""

    def add(self, parser: argparse._ActionsContainer) -> None:
        """Add the argument to a parser. The environment is read now, so that each run sees its own."""
        value = os.environ.get(self.variable) if self.variable else None
        default = {"default": FromVariable(value)} if value else {}
        parser.add_argument(*self.names, **(self.options | default))


class OneOf(tuple[Argument, ...]):
    """Arguments that exclude each other."""

    __slots__ = ()

    def add(self, parser: argparse._ActionsContainer) -> None:
        """Add the arguments to a parser."""
        group = parser.add_mutually_exclusive_group()
        for each in self:
            each.add(group)


def argument(names: str, metavar: str | None, text: str, *, variable: str = "", **options: Any) -> Argument:
    """Return an argument with a value; several names are separated by blanks."""
    return Argument(tuple(names.split()), {"metavar": metavar, "help": text, **options}, variable)


def repeated(name: str, metavar: str, text: str) -> Argument:
    """Return an option that may be given several times."""
    return argument(name, metavar, text, action="append", default=[])


def flag(name: str, text: str, **options: Any) -> Argument:
    """Return an option without a value."""
    return Argument((name,), {"action": "store_true", "help": text, **options})


@attrs.frozen(kw_only=True)
class Command:
    """A command of `docid`.

    Attributes:
        name, help, description: what `docid --help` and `docid COMMAND --help` say.
        arguments: its arguments, in the order of its help.
        run: runs it, and returns the exit code.
        stops_unread: whether it ends when nobody reads its output any more (`docid ls | head`). Commands that change
            something, or whose exit code says something, go on.
    """

    name: str
    help: str
    description: str
    arguments: tuple[Argument | OneOf, ...]
    run: Callable[[Arguments, Output], int]
    stops_unread: bool = False

    def add(self, verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        """Add the command's parser."""
        parser = verbs.add_parser(self.name, allow_abbrev=False, help=self.help, description=self.description)
        for each in self.arguments:
            each.add(parser)
        parser.set_defaults(command=self, parser=parser)
