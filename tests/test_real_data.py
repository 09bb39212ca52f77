"""Tables and a store that a real project wrote with its own system."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from docid import (
    DocidError,
    DocsStore,
    Document,
    DraftTask,
    EssayTask,
    EvaluationTask,
    MissingParent,
    Outcome,
    TaskRow,
    TaskTableError,
    read_tasks,
    reserve_tasks,
    write_tasks,
)
from tests import unpack

TABLES: list[tuple[str, type[TaskRow], int]] = [
    ("active/draft_generation_tasks.csv", DraftTask, 15),
    ("active/essay_generation_tasks.csv", EssayTask, 15),
    ("active/evaluation_tasks.csv", EvaluationTask, 60),
    ("all_templates/draft_generation_tasks.csv.gz", DraftTask, 110),
    ("all_templates/essay_generation_tasks.csv.gz", EssayTask, 880),
    ("all_templates/evaluation_tasks.csv.gz", EvaluationTask, 24_640),
]


def read_content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.fixture
def old_store(daydreaming: Path, tmp_path: Path) -> DocsStore:
    unpack(daydreaming / "docs-store.tar.gz", tmp_path)
    return DocsStore(tmp_path / "docs", durability="none")


@pytest.mark.parametrize(("name", "row_type", "count"), TABLES, ids=[name for name, _, _ in TABLES])
def test_real_table_is_rewritten_byte_for_byte(
    daydreaming: Path, tmp_path: Path, name: str, row_type: type[TaskRow], count: int
) -> None:
    original, copy = daydreaming / "tables" / name, tmp_path / Path(name).name
    assert write_tasks(copy, read_tasks(original, row_type)) == count
    assert read_content(copy) == read_content(original)


@pytest.mark.parametrize(("name", "row_type", "count"), TABLES[:3], ids=[name for name, _, _ in TABLES[:3]])
def test_reserve_keeps_ids_of_another_system(daydreaming: Path, name: str, row_type: type[TaskRow], count: int) -> None:
    rows = list(read_tasks(daydreaming / "tables" / name, row_type))
    assert list(reserve_tasks(rows, row_type)) == rows
    assert len({row.doc_id for row in rows}) == count


def test_real_store_is_read(old_store: DocsStore) -> None:
    documents = [document for stage in old_store.stages for document in old_store.documents(stage)]
    assert len(documents) == 90
    assert {stage: len(list(old_store.ids(stage))) for stage in old_store.stages} == {
        "draft": 15,
        "essay": 15,
        "evaluation": 60,
    }
    assert sum(document.parsed_text is not None for document in documents) == 34
    for document in documents:
        read = document.read(verify=True)
        assert document.legacy
        assert read.task_id
        assert (read.parent_doc_id is None) == (document.stage == "draft")
        for part, text in read.parts().items():
            assert (document.path / f"{part}.txt").read_bytes() == text.encode()
        assert read.metadata["template_id"]


def test_ensure_keeps_every_document_of_the_real_tables(daydreaming: Path, old_store: DocsStore) -> None:
    for name, row_type, _ in TABLES[:3]:
        for row in read_tasks(daydreaming / "tables" / name, row_type):
            stored = old_store.ensure(row, lambda _: pytest.fail("the document exists")).document
            assert (stored.outcome, stored.task_id, stored.parent_doc_id) == ("kept", row.task_id, row.parent_doc_id)


def test_new_document_joins_the_real_store(daydreaming: Path, old_store: DocsStore) -> None:
    [parent, *_] = read_tasks(daydreaming / "tables" / "active/essay_generation_tasks.csv", EssayTask)
    [row] = reserve_tasks([EvaluationTask(task_id="again", parent_doc_id=parent.doc_id)], EvaluationTask)
    assert old_store.write(Document.from_task(row, raw_text="SCORE: 7")).outcome is Outcome.CREATED
    assert len(list(old_store.documents("evaluation"))) == 61


# --- invalid input: one error each, and docid writes nothing --------------------------------------------------


def copy_with_change(daydreaming: Path, tmp_path: Path, old: bytes, new: bytes) -> Path:
    """Write a copy of the real essay table with one change, and return its path."""
    path = tmp_path / "essay_generation_tasks.csv"
    text = read_content(daydreaming / "tables" / "active" / path.name)
    assert old in text
    path.write_bytes(text.replace(old, new, 1))
    return path


FAULTS = [
    pytest.param(
        b"essay_task_id",
        b"essay_tusk_id",
        "column essay_task_id: missing from the header; is 'essay_tusk_id' misspelled",
        id="wrong header",
    ),
    pytest.param(
        b"google/gemini-2.5-flash", b"caf\xe9", r"row 2, column generation_model_name: .* not UTF-8", id="latin-1 bytes"
    ),
    pytest.param(b",google/gemini-2.5-flash", b"", "row 2: 9 cells; expected 10, as in the header", id="row too short"),
    pytest.param(
        b"3jzc4iqmvp08wjuh,", b"..,", r"row 2, column parent_doc_id: '\.\.'; not a doc id", id="dots for an id"
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTS)
def test_damaged_real_table_is_one_error(
    daydreaming: Path, tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    path = copy_with_change(daydreaming, tmp_path, old, new)
    before = path.read_bytes()
    with pytest.raises(TaskTableError, match=message):
        write_tasks(path, reserve_tasks(read_tasks(path, EssayTask), EssayTask), like=path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_duplicate_task_id_is_one_error(daydreaming: Path, tmp_path: Path) -> None:
    path = tmp_path / "draft_tasks.csv"
    rows = [row.task_id for row in read_tasks(daydreaming / "tables/active/draft_generation_tasks.csv", DraftTask)]
    path.write_text("draft_task_id\n" + "\n".join([*rows, rows[3]]) + "\n")
    before = path.read_bytes()
    with pytest.raises(TaskTableError, match=rf"row 17, column draft_task_id: '{rows[3]}'; same doc id .* as row 5"):
        write_tasks(path, reserve_tasks(read_tasks(path, DraftTask, reserved=False), DraftTask), like=path)
    assert path.read_bytes() == before


def test_parent_of_wrong_stage_is_one_error(daydreaming: Path, old_store: DocsStore) -> None:
    [essay, *_] = read_tasks(daydreaming / "tables/active/essay_generation_tasks.csv", EssayTask)
    row = EssayTask(task_id="of an essay", doc_id="new", parent_doc_id=essay.doc_id)
    with pytest.raises(MissingParent, match="is not in the store; the id .* is in stage essay") as caught:
        old_store.ensure(row, lambda _: pytest.fail("the model was called"))
    assert isinstance(caught.value, DocidError)
    assert not old_store.exists("essay", "new")
    assert not old_store.path("essay", "new").exists()
