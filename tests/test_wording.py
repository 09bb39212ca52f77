"""Snapshots of everything that docid says to users, so that each change of wording shows up in review.

`DOCID_UPDATE_SNAPSHOTS=1 pytest tests/test_wording.py` writes the files again.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import docid
from docid.cli import main
from tests.test_errors import EXAMPLES

SNAPSHOTS = Path(__file__).parent / "snapshots"
PACKAGE = Path(docid.__file__).parent
COMMANDS = sorted(path.stem for path in (PACKAGE / "cli").glob("*.py") if "ARGUMENTS = " in path.read_text("utf-8"))


def check_snapshot(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("DOCID_UPDATE_SNAPSHOTS"):
        path.write_text(text, "utf-8")
    assert path.read_text("utf-8") == text, "if the new wording is right, run with DOCID_UPDATE_SNAPSHOTS=1"


def format_template(node: ast.AST) -> str:
    """Return the text of a string or f-string; a value that is more than a name is shown as {…}."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(format_template, node.values))
    if isinstance(node, ast.FormattedValue):
        is_name = isinstance(node.value, (ast.Name, ast.Attribute))
        return f"{{{ast.unparse(node.value)}}}" if is_name else "{…}"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def list_texts(node: ast.AST) -> Iterator[str]:
    """Yield every string below a node that has two words and is not a docstring, in the order of the source."""
    if isinstance(node, (ast.Constant, ast.JoinedStr)):
        text = format_template(node)
        if " " in text.strip() and len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\{.*?\}", "", text))) > 1:
            yield text
        if isinstance(node, ast.Constant):
            return
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                yield from list_texts(value.value)
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from list_texts(child)


def test_messages_are_as_reviewed() -> None:
    lines: list[str] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        texts = list(dict.fromkeys(list_texts(ast.parse(path.read_text("utf-8")))))
        if texts:
            lines += ["", f"[{path.relative_to(PACKAGE).as_posix()}]", *map(repr, texts)]
    check_snapshot("messages.txt", "\n".join(lines[1:]) + "\n")


def test_errors_are_as_reviewed() -> None:
    rendered = [f"{type(error).__name__}\n    " + str(error).replace("\n", "\n    ") for error in EXAMPLES]
    check_snapshot("errors.txt", "\n\n".join(rendered) + "\n")


@pytest.mark.parametrize("command", ["docid", *COMMANDS])
def test_help_is_as_reviewed(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for variable in ("DOCID_STORE", "DOCID_STAGES"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SystemExit):
        main(["--help"] if command == "docid" else [command, "--help"])
    text = capsys.readouterr().out
    if sys.version_info >= (
        3,
        13,
    ):  # argparse names the value of `-o FILE, --output FILE` once, and wraps usage otherwise
        assert text.startswith("usage: docid")
        return
    check_snapshot(f"help/{command}.txt", text)
