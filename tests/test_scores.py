"""`scores` reads the scores of evaluations; `write_scores` and `read_scores` handle tables of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from docid import DocsStore, DraftTask, EssayTask, EvaluationTask, InvalidName, Stages, TaskTableError
from docid.backends import MemoryBackend
from docid.cli import main
from docid.curate import Score, read_scores, score_columns, scores, write_scores
from tests.curation import decide_outcome, put


@pytest.fixture
def judged(store: DocsStore) -> DocsStore:
    return decide_outcome(store)


def test_score_names_its_document_and_ancestors(judged: DocsStore) -> None:
    found = list(scores(judged))
    assert [each.doc_id for each in found] == ["v1", "v2", "v3", "v4", "v5"]
    assert found[0]._replace(origin={}) == Score(
        "v1", "e1", "task-v1", "kind", "4", 7.0, "", "2026-11-24T12:00:00.000000Z", "task-e1", {"draft": "d1"}, "", {}
    )
    assert list(found[0].origin) == ["combo_id", "essay_template", "essay_model", "draft_template", "draft_model"]
    # The essay exists; the draft that it names is missing.
    assert (found[3].score, found[3].ancestors) == (5.0, {"draft": "gone"})
    assert (found[4].score, found[4].error) == (None, "no parsed text")
    assert next(scores(judged, "essay")).ancestors == {}


@pytest.mark.parametrize(
    ("parsed", "score", "error"),
    [
        pytest.param("7", 7.0, "", id="whole"),
        pytest.param("-.5", -0.5, "", id="no digit before the point"),
        pytest.param("\n 8.25 \r\n", 8.25, "", id="blanks around"),
        pytest.param("1e3", 1000.0, "", id="exponent"),
        pytest.param("", None, "parsed text is empty", id="empty"),
        pytest.param(" \n", None, "parsed text is empty", id="blank"),
        pytest.param("nan", None, "parsed text is not a number: 'nan'", id="nan"),
        pytest.param("inf", None, "parsed text is not a number: 'inf'", id="inf"),
        pytest.param("1e301", None, "parsed text is too large: '1e301'", id="too large to be added up"),
        pytest.param("1e999", None, "parsed text is too large: '1e999'", id="too large"),
        pytest.param("7/10", None, "parsed text is not a number: '7/10'", id="a fraction"),
        pytest.param("1_000", None, "parsed text is not a number: '1_000'", id="an underscore"),
        pytest.param("٧", None, "parsed text is not a number: '٧'", id="other digits"),
        pytest.param("7\n8", None, "parsed text is not a number: '7\\n8'", id="two"),
    ],
)
def test_score_is_the_parsed_text_as_a_number(store: DocsStore, parsed: str, score: float | None, error: str) -> None:
    put(store, "evaluation", "v1", "t-1", parent_doc_id="e1", parsed_text=parsed)
    [found] = scores(store)
    assert (found.score, found.error, found.parent_task_id, found.ancestors) == (score, error, "", {"draft": ""})


def test_unreadable_document_does_not_stop_scores(local: DocsStore) -> None:
    judged = decide_outcome(local)
    (judged.path("evaluation", "v1") / "parsed.txt").write_text("9")
    (judged.path("evaluation", "v2") / "metadata.json").write_text("{")
    (judged.path("evaluation", "v3") / "parsed.txt").write_bytes(b"\xff" * 5)
    (judged.path("essay", "e3") / "metadata.json").unlink()
    found = list(scores(judged))
    assert [each.score for each in found] == [None, None, None, 5.0, None]
    assert all(each.error.startswith("unreadable: ") for each in found[:3])
    assert (found[3].parent_doc_id, found[3].parent_task_id, found[3].ancestors) == ("e3", "", {"draft": ""})


def test_scores_accept_legacy_records_and_skip_vanished_documents() -> None:
    backend = MemoryBackend()
    store = DocsStore(backend)
    backend.create(
        "evaluation",
        "v1",
        b'{"task_id": "t", "parent_doc_id": "Not An Id", "created_at": "2025-01-01T01:00:00+01:00"}',
        {"parsed.txt": b"1"},
    )
    backend.create("evaluation", "v2", b'{"created_at": "2025-01-01T01:00:00"}', {"parsed.txt": b"2", "raw.txt": b""})
    names = store.ids
    store.ids = lambda stage: [*names(stage), "v0"]  # type: ignore[assignment,method-assign,return-value]
    assert [(each.doc_id, each.score, each.created_at, each.task_id) for each in scores(store)] == [
        ("v1", 1.0, "2025-01-01T00:00:00.000000Z", "t"),
        ("v2", 2.0, "", ""),
    ]


def test_score_table_is_reproducible_and_readable(judged: DocsStore, tmp_path: Path) -> None:
    columns = score_columns(judged)
    for name in ("one.csv", "two.csv", "three.csv.gz"):
        assert write_scores(tmp_path / name, scores(judged), columns) == 5
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    header, first, *_ = (tmp_path / "one.csv").read_text().splitlines()
    assert header == (
        "doc_id,parent_doc_id,task_id,template_id,model_id,score,error,created_at,parent_task_id,changed,draft_doc_id,"
        "combo_id,essay_template,essay_model,draft_template,draft_model"
    )
    assert first == "v1,e1,task-v1,kind,4,7.0,,2026-11-24T12:00:00.000000Z,task-e1,,d1," + ",".join(
        next(scores(judged)).origin.values()
    )
    expected = [each._replace(ancestors={}, origin={}) for each in scores(judged)]
    assert list(read_scores(tmp_path / "one.csv")) == list(read_scores(tmp_path / "three.csv.gz")) == expected


def test_stage_without_documents_gives_a_header_only(store: DocsStore, tmp_path: Path) -> None:
    assert write_scores(tmp_path / "scores.csv", scores(store), score_columns(store)) == 0
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 1
    with pytest.raises(InvalidName):
        scores(store, "chapter")


def test_scores_need_a_store() -> None:
    with pytest.raises(TypeError, match="store: expected a DocsStore, got str"):
        scores("docs")  # type: ignore[arg-type]


def test_score_names_all_ancestors_of_a_longer_chain() -> None:
    store = DocsStore(MemoryBackend(), stages=Stages.chain("idea", "plan", "text", "mark"))
    put(store, "idea", "i1", "i")
    put(store, "plan", "p1", "p", parent_doc_id="i1")
    put(store, "text", "t1", "t", parent_doc_id="p1")
    put(store, "mark", "m1", "m", parent_doc_id="t1", parsed_text="1")
    assert score_columns(store)[10:] == (
        *("plan_doc_id", "idea_doc_id", "combo_id", "text_template", "text_model"),
        *("plan_template", "plan_model", "idea_template", "idea_model"),
    )
    [found] = scores(store)
    assert found.ancestors == {"plan": "p1", "idea": "i1"}
    [found] = scores(store, "text")
    assert found.ancestors == {"idea": "i1"}


def test_all_faults_of_a_score_table_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("doc_id,score\nv1,1\n")
    with pytest.raises(TaskTableError, match="column parent_doc_id: missing from the header; the columns are doc_id, "):
        read_scores(path)
    path.write_text("parent_doc_id,score\ne1,1\nE1,2\ne2,good\ne3\n,\n")
    found: list[Score] = []
    with pytest.raises(TaskTableError) as caught:
        found.extend(read_scores(path))
    assert [each.score for each in found] == [1.0]
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [
        (3, "parent_doc_id"),
        (4, "score"),
        (5, None),
    ]
    path.write_bytes(b"parent_doc_id,score\xff\n")
    with pytest.raises(TaskTableError, match="not UTF-8"):
        read_scores(path)
    path.write_bytes(b"")
    with pytest.raises(TaskTableError, match="the columns are none"):
        read_scores(path)
    path.write_bytes(b"parent_doc_id;score\n")  # docid finds the delimiter
    assert list(read_scores(path)) == []
    path.write_bytes(b"parent_doc_id,score,score\n")
    with pytest.raises(TaskTableError, match="column score: repeated"):
        read_scores(path)
    path.write_bytes(b"parent_doc_id,score\n\xff,1\n")
    with pytest.raises(TaskTableError, match="not UTF-8"):
        list(read_scores(path))


def test_stage_named_parent_is_refused(store: DocsStore) -> None:
    odd = DocsStore(store.backend, stages=Stages.chain("parent", "child", "verdict"))
    with pytest.raises(ValueError, match="'parent' would have the column parent_doc_id"):
        score_columns(odd)


TEXT = 'The judge says: SCORE: 3, then SCORE: 8.5. {"not": "json"}'
JSON = '{"score": 7, "by": {"a/b": [1, "2.5", true]}, "~": 4}'


@pytest.mark.parametrize(
    ("text", "options", "score", "error"),
    [
        (TEXT, {"pattern": r"SCORE: *([0-9.]*[0-9])"}, 8.5, ""),
        (TEXT, {"pattern": "3|8"}, 8.0, ""),
        (TEXT, {"pattern": "score"}, None, "no match of the pattern in the parsed text"),
        (TEXT, {"pattern": "(judge|SCORE)"}, None, "match in the parsed text is not a number: 'SCORE'"),
        (TEXT, {"pattern": "(x)|judge"}, None, "no match in the parsed text"),
        (JSON, {"key": "/score"}, 7.0, ""),
        (JSON, {"key": "/by/a~1b/1"}, 2.5, ""),
        (JSON, {"key": "/~0"}, 4.0, ""),
        ("7", {"key": ""}, 7.0, ""),
        (JSON, {"key": "/by/a~1b/2"}, None, "value of the key is not a number: True"),
        (JSON, {"key": "/by/a~1b/3"}, None, "the JSON in the parsed text has no key '/by/a/b/3'"),
        (JSON, {"key": "/by/a~1b/01"}, None, "the JSON in the parsed text has no key '/by/a/b/01'"),
        (JSON, {"key": f"/by/a~1b/{'9' * 30}"}, None, f"the JSON in the parsed text has no key '/by/a/b/{'9' * 30}'"),
        (JSON, {"key": "/none"}, None, "the JSON in the parsed text has no key '/none'"),
        (TEXT, {"key": "/score"}, None, "the parsed text is not JSON"),
    ],
)
def test_score_is_inside_a_text(text: str, options: dict[str, Any], score: float | None, error: str) -> None:
    store = DocsStore(MemoryBackend())
    put(store, "evaluation", "v1", "v", parent_doc_id="e1", parsed_text=text)
    put(store, "evaluation", "v2", "w", parent_doc_id="e1", raw_text=text)
    parsed, raw = scores(store, **options)
    assert (parsed.score, parsed.error) == (score, error)
    # A document that was not parsed is searched in its raw text.
    assert (raw.score, raw.error) == (score, error.replace("the parsed text", "the raw text"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "("}, "pattern: '[(]' is not a regular expression"),
        ({"key": "score"}, "key: expected a JSON Pointer such as '/score', got 'score'"),
        ({"key": "/a", "pattern": "b"}, "pattern, key: expected only one of them"),
        ({"rows": [DraftTask(task_id="t", doc_id="d1")]}, "rows: of stage draft; expected rows of stage evaluation"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores(DocsStore(MemoryBackend()), **options)


def test_cohort_of_rows_and_models(judged: DocsStore) -> None:
    def read(**options: Any) -> list[str]:
        return [each.doc_id for each in scores(judged, **options)]

    rows = [EvaluationTask(task_id="t", doc_id=doc_id) for doc_id in ("v3", "v1", "gone")]
    assert read(rows=rows) == ["v1", "v3"]
    essays = [EssayTask(task_id="t", doc_id="e1")]
    assert read(rows=essays) == [each.doc_id for each in scores(judged) if each.parent_doc_id == "e1"]
    assert read(rows=[]) == []
    with pytest.raises(ValueError, match="rows: of stages essay, evaluation; expected rows of one stage"):
        read(rows=[*rows, *essays])
    assert read(models=["4"]) == [each.doc_id for each in scores(judged) if each.model_id == "4"]
    assert read(models=["none"]) == []


def test_command_reads_a_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = DocsStore(tmp_path / "docs", durability="none")
    for number in range(4):
        metadata = {"model_id": f"m-{number % 2}"}
        put(
            store,
            "evaluation",
            f"v{number}",
            f"v-{number}",
            parent_doc_id=f"e{number}",
            raw_text=f"SCORE {number}",
            metadata=metadata,
        )
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "evaluation_tasks.csv").write_text("evaluation_task_id,parent_doc_id,doc_id\nv-1,e1,v1\nv-2,e2,v2\n")
    (tables / "essay_tasks.csv").write_text("essay_task_id,parent_doc_id,doc_id\nx,d1,e3\n")
    at = ("--store", str(tmp_path / "docs"))

    def read(*options: str) -> list[float]:
        assert main(["scores", "--json", "--pattern", "[0-9]+", *options, *at]) == 0
        return [json.loads(line)["score"] for line in capsys.readouterr().out.splitlines()]

    assert read() == [0, 1, 2, 3]
    assert read("--tables", str(tables)) == [1, 2]
    assert read("--tables", str(tables / "essay_tasks.csv")) == [3]
    assert read("--tables", str(tables), "--models", "m-0,m-9") == [2]
    # A damaged evaluation is listed, since its model is unknown.
    (tmp_path / "docs/evaluation/v0/raw.txt").write_text("torn")
    assert read("--models", "m-1") == [None, 1, 3]
    (tmp_path / "docs/evaluation/v0/raw.txt").write_text("SCORE 0")
    assert main(["scores", "--models", "m-9", *at]) == 0
    assert "0 documents of stage evaluation and models m-9: 0 with a score" in capsys.readouterr().err
    (tables / "unreserved_tasks.csv").write_text("evaluation_task_id,parent_doc_id,doc_id\nv-1,e1,\n")
    assert main(["scores", "--tables", f"evaluation={tables / 'unreserved_tasks.csv'}", *at]) == 2
    assert "docid: --" not in capsys.readouterr().err
    (tables / "unreserved_tasks.csv").unlink()
    (tmp_path / "empty").mkdir()
    (tables / "draft_tasks.csv").write_text("draft_task_id,doc_id\nx,d1\n")
    for options, message in (
        (
            ["--tables", str(tables / "draft_tasks.csv")],
            "--tables: expected the table of stage evaluation, or of its parent",
        ),
        (["--pattern", "("], "--pattern: '(' is not a regular expression"),
        (["--models", ","], "--models: expected ids of models separated by commas"),
    ):
        assert main(["scores", *options, *at]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "empty/models.csv").write_text("id\nm-0\n")
    assert main(["scores", "--tables", str(tmp_path / "empty"), *at]) == 2
    assert "a directory without task tables" in capsys.readouterr().err
    # The selection reads the store, or a table of scores.
    for number in range(4):
        put(store, "essay", f"e{number}", f"e-{number}", parent_doc_id="d1")
    assert main(["select", "--top", "1", "--pattern", "[0-9]+", "--models", "m-0", *at]) == 0
    captured = capsys.readouterr()
    assert "e2" in captured.out.splitlines()[-1]
    assert captured.err.startswith("4 evaluations, ")
    assert main(["select", "--top", "1", "--scores", "scores.csv", "--pattern", "x", *at]) == 2
    assert "expected them without --scores" in capsys.readouterr().err
