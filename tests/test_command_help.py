"""The help of the commands: two examples each, which the parser accepts."""

from __future__ import annotations

import re
import shlex

import pytest

from docid.cli import build_parser, main

OVERVIEW = build_parser().format_help()
COMMANDS = re.findall(r"(?m)^    (\w+) ", OVERVIEW.partition("commands:\n")[2])


def read_help(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    return capsys.readouterr().out


def find_examples(text: str) -> list[str]:
    """Return the command lines of the examples at the end of a help; each follows a comment or another command."""
    lines = text.partition("\nexamples:\n")[2].splitlines()
    assert lines[0].startswith("  # ")
    assert all(line.startswith(("  # ", "  docid ")) for line in lines)
    return [line for line in lines if line.startswith("  docid ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_two_examples_that_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = read_help(capsys, command)
    examples = find_examples(text)
    assert len(examples) == text.count("\n  # ") == 2
    for example in examples:
        words = shlex.split(example)
        assert words[:2] == ["docid", command]
        build_parser().parse_args(words[1:])


def test_overview_has_a_quick_start_that_parses(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) == 22
    examples = find_examples(read_help(capsys))
    assert 3 <= len(examples) <= 4
    for example in examples:
        assert build_parser().parse_args(shlex.split(example)[1:]).stages is None


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_narrow_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, read_help(capsys, *command.split()).splitlines())) < 79


def test_description_is_wrapped_to_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptions = []
    for columns in ("50", "500"):
        monkeypatch.setenv("COLUMNS", columns)
        descriptions.append(read_help(capsys, "show").split("\n\n")[1])
    narrow, wide = descriptions
    assert narrow.split() == wide.split()
    assert max(map(len, narrow.splitlines())) <= 48
    assert "\n" not in wide


def test_help_works_in_a_terminal_without_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1")
    assert "usage: docid show" in read_help(capsys, "show")
