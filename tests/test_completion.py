"""Completion of command lines in a shell, by argcomplete."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPLETER = Path(sys.executable).with_name("register-python-argcomplete")


def complete(tmp_path: Path, line: str, *program: str) -> list[str]:
    """Return the candidates for the end of a line, as the shell's function asks for them."""
    answers = tmp_path / "answers"
    answers.write_text("")
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answers),
    }
    command = [sys.executable, *(program or ("-m", "docid"))]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    return [each.strip() for each in answers.read_text().split("\n") if each]


def test_commands_options_choices_and_files_are_completed(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    (tmp_path / "date=1").mkdir()
    (tmp_path / "date=1" / "draft_tasks.csv").write_text("")
    commands = {"reserve", "replay", "reparse", "report", "register", "repair", "rescued", "remove", "restore"}
    assert commands == set(complete(tmp_path, "docid re"))
    assert {"--store", "--stages"} <= set(complete(tmp_path, "docid show --st"))
    assert complete(tmp_path, "docid audit --fail-on w") == ["warning"]
    assert complete(tmp_path, "docid reserve date=1/dr") == ["date=1/draft_tasks.csv"]


def test_bash_completes_a_command(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    if not COMPLETER.exists() or shutil.which("bash") is None:
        pytest.skip("bash or register-python-argcomplete is not here")
    script = f"""
        docid() {{ {shlex.quote(sys.executable)} -m docid "$@"; }}
        eval "$({shlex.quote(str(COMPLETER))} docid)"
        COMP_LINE="docid lin" COMP_POINT=9 COMP_TYPE=9 COMP_WORDS=(docid lin) COMP_CWORD=1
        _python_argcomplete docid
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "lineage" in done.stdout.split()


def test_nothing_is_completed_without_argcomplete(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['argcomplete'] = None; from docid.cli import main; sys.exit(main())"
    assert complete(tmp_path, "docid reserve x", "-c", hidden) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "answers"]


def test_command_does_not_load_argcomplete_by_itself() -> None:
    code = (
        "import sys; from docid.cli import main\n"
        "main(['reserve', '--stage', 'draft', '--task-id', 't']); sys.exit('argcomplete' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
