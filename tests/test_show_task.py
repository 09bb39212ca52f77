"""`docid show --task STAGE TASK_ID`: find the document of a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from docid import DocsStore, Document, DocumentNotFound, reserve_doc_id
from docid.cli import main

TASK = "tides__large-1"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DocsStore:
    monkeypatch.setenv("DOCID_STORE", str(tmp_path / "docs"))
    (tmp_path / "docs").mkdir()
    return DocsStore(tmp_path / "docs", durability="none")


def write(store: DocsStore, doc_id: str, task_id: str = TASK, stage: str = "draft") -> None:
    store.write(Document(stage=stage, doc_id=doc_id, task_id=task_id, raw_text=f"text of {doc_id}"))


def show(capfd: pytest.CaptureFixture[str], task_id: str = TASK, stage: str = "draft") -> tuple[int, str, str]:
    code = main(["show", "--task", stage, task_id, "--raw"])
    out, err = capfd.readouterr()
    return code, out, err


def test_document_of_the_derived_id_is_shown_without_reading_others(
    store: DocsStore, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    doc_id = reserve_doc_id("draft", TASK)
    write(store, doc_id)
    write(store, reserve_doc_id("draft", TASK, salt="2"))
    monkeypatch.setattr(DocsStore, "ids", lambda *_: pytest.fail("the stage was listed"))
    assert show(capfd) == (0, f"text of {doc_id}", "")


def test_only_document_of_the_task_is_found_under_any_id(store: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    write(store, reserve_doc_id("draft", TASK), "of another task")
    write(store, "4a")
    assert show(capfd) == (0, "text of 4a", "")
    assert show(capfd, "of another task")[0] == 0


def test_several_documents_of_a_task_are_listed(store: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    for doc_id in ("b1", "a1"):
        write(store, doc_id)
    code, out, err = show(capfd)
    assert (code, out) == (2, "")
    assert err == (
        f"docid: --task draft {TASK!r}: 2 documents of this task: draft/a1, draft/b1; give one of these ids\n"
    )


def test_task_without_document_is_an_error(store: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    assert show(capfd) == (2, "", f"docid: --task draft {TASK!r}: no document of this task in {store.root}\n")
    write(store, "a1", "other")
    Path(store.path("draft", "a1"), "metadata.json").write_text("{")
    assert show(capfd)[2].endswith(f"in {store.root}; docid cannot read 1 document of this stage\n")
    write(store, "b1")
    assert show(capfd) == (0, "text of b1", "")
    assert "stage 'chapter': not a stage of this pipeline" in show(capfd, stage="chapter")[2]
    assert "task_id 't ': leading or trailing white space" in show(capfd, "t ")[2]


def test_damaged_document_of_the_derived_id_is_an_error(store: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    doc_id = reserve_doc_id("draft", TASK)
    write(store, doc_id)
    write(store, "a1")
    Path(store.path("draft", doc_id), "metadata.json").write_text("{")
    code, out, err = show(capfd)
    assert (code, out, f"draft/{doc_id}" in err) == (2, "", True)


def test_document_that_vanishes_is_skipped(
    store: DocsStore, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, "a1")
    monkeypatch.setattr(DocsStore, "ids", lambda *_: iter(["gone", "a1"]))
    assert show(capfd) == (0, "text of a1", "")
    with pytest.raises(DocumentNotFound):
        store.open("draft", "gone")


def test_show_takes_a_document_or_a_task(store: DocsStore, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["draft/a1", "--task", "draft", TASK]):
        assert main(["show", *arguments]) == 2
        assert "expected either a document or --task STAGE TASK_ID" in capfd.readouterr().err
