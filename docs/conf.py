"""The documentation's site: `nox -s docs` builds it with Sphinx, MyST and furo, warnings as errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from docid import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "docid"
author = "The docid developers"
project_copyright = "The docid developers"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"docid {release}"
# Blocks without a language are commands, trees and what is printed.
highlight_language = "none"

# Links to a heading, `store.md#five-outcomes`, as GitHub has them.
myst_heading_anchors = 3

# The tutorial is shown as it was stored; a test executes it.
nb_execution_mode = "off"

# A single backtick in a docstring is code, as it is in Markdown.
default_role = "code"
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# As a list, like arguments: a line may name several, and other classes have attributes of the same names.
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 100


def _help(*command: str) -> str:
    """Return what `docid COMMAND --help` prints, on a machine where no variable names a store or stages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCID_")}
    program = [sys.executable, "-m", "docid", *command, "--help"]
    # Python 3.14 colours help where it thinks that a person reads it.
    environment |= {"COLUMNS": "100", "NO_COLOR": "1"}
    run = subprocess.run(program, env=environment, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - docid's own
    return run.stdout


def _without_links_out(app: Sphinx, docname: str, source: list[str]) -> None:  # noqa: ARG001 - Sphinx calls it so
    """Leave the text alone of links to files outside of docs/: they work on GitHub, and are no part of the site."""
    source[0] = re.sub(r"\[([^]]+)\]\(\.\./[^)]+\)", r"\1", source[0])


def _add_commands(app: Sphinx, docname: str, source: list[str]) -> None:  # noqa: ARG001 - Sphinx calls it so
    """Put every command's help on its page."""
    if docname != "reference/commands":
        return
    overview = _help()
    # The lines that are indented by four begin with a command, those indented by more go on with its description.
    lines = overview.partition("commands:\n")[2].splitlines()
    commands = [line.split()[0] for line in lines[1:] if line.startswith("    ") and line[4] != " "]
    for title, text in [("docid", overview), *((f"docid {command}", _help(command)) for command in commands)]:
        source[0] += f"\n## {title}\n\n```text\n{text}```\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _without_links_out)
    app.connect("source-read", _add_commands)
