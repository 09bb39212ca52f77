"""The command `docid repair`."""

from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path

import pytest

from docid import DocsStore
from docid.cli import main
from tests.damaged_store import fill, torn, tree


@pytest.fixture
def root(local: DocsStore, tmp_path: Path) -> Path:
    return fill(local, tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_command_plans_applies_and_then_finds_nothing(
    local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn(root)
    (root / "draft" / "notes.txt").write_text("mine")
    before = tree(root)
    code, out, err = run(capsys, "repair", "--store", root, "--stale-after", "0s")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "left alone   draft/notes.txt: unlisted-file: it belongs to no document; check what it is; docid does "
        "not need it",
        "to move      draft/good (task_id='t-1'): raw.txt: 2 bytes, but the record says 4",
        "1 to move, 1 left alone; dry run: --apply makes these changes",
    ]
    assert tree(root) == before
    code, out, _ = run(capsys, "repair", "--store", root, "--apply", "--stale-after", "0s")
    assert code == 0
    assert re.search(
        r"^moved        draft/good \(task_id='t-1'\) -> \.docid/quarantine/\S+/draft/good: raw", out, re.MULTILINE
    )
    assert out.endswith("\n1 moved, 1 left alone\n")
    (root / "draft" / "notes.txt").unlink()
    assert run(capsys, "repair", "--store", root, "--apply", "--stale-after", "0s")[:2] == (0, "nothing to repair\n")
    code, out, _ = run(capsys, "repair", "--store", root, "--apply", "--purge", "--older-than", "0s")
    assert code == 0
    assert re.match(r"deleted      \.docid/quarantine/\S+: [0-9]+ bytes\n1 deleted\n$", out)


def test_json_prints_one_step_per_line(local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn(root)
    code, out, _ = run(capsys, "repair", "--store", root, "--json", "--stale-after", "0s")
    step = json.loads(out)
    assert (code, step["action"], step["path"], step["done"], step["error"]) == (
        0,
        "quarantine",
        "draft/good",
        False,
        None,
    )
    assert step["finding"]["code"] == "torn-document"
    _, out, _ = run(
        capsys, "repair", "--store", root, "--json", "--purge", "--history", "--older-than", "0s", "--stale-after", "0s"
    )
    assert [json.loads(line)["finding"] for line in out.splitlines()[1:]] == [None, None]


def test_failed_step_exits_with_1(
    local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torn(root)

    def refuse_rename(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("docid.store.backends.local.directory.os.rename", refuse_rename)
        code, out, _ = run(capsys, "repair", "--store", root, "--apply", "--stale-after", "0s")
    assert code == 1
    assert "failed       draft/good (task_id='t-1'): [Errno 28] No space left on device\n" in out
    assert out.endswith("\n1 failed\n")


def test_locked_document_is_skipped(local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn(root)
    with open(root / "draft" / ".lock-good", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, out, _ = run(capsys, "repair", "--store", root, "--apply", "--stale-after", "0s")
    assert code == 0
    assert "skipped      draft/good (task_id='t-1'): raw.txt: 2 bytes, but the record says 4\n" in out
    assert out.endswith("\n1 skipped\n")
    assert (root / "draft" / "good").exists()


def test_hint_names_directories_of_other_stages(
    local: DocsStore, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "repair", "--store", root, "--stages", "outline")
    assert (code, out) == (0, "nothing to repair\n")
    assert (
        "has no directory of stage outline; docid treats it as an empty store. It holds draft (--stages declares other stages)"
        in err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--history"], "expected --purge with them"),
        (["--older-than", "3d"], "expected --purge with them"),
        (["--stale-after", "soon"], "'soon': expected a number followed by s, m, h or d"),
        (["--purge", "--older-than", "30"], "'30': expected a number followed by s, m, h or d"),
    ],
)
def test_wrong_arguments_exit_with_2(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    try:
        code, _, err = run(capsys, "repair", "--store", root, *arguments)
    except SystemExit as exit_:
        code, err = exit_.code, capsys.readouterr().err  # type: ignore[assignment]
    assert code == 2
    assert message in err
