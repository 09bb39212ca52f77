"""The pages on other orchestrators: their snippets are run as they stand, by the orchestrators themselves."""

from __future__ import annotations

import ast
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docid import DocsStore, DraftTask, EssayTask, TaskRow, audit, read_tasks, reserve_tasks, write_tasks

DOCS = Path(__file__).parent.parent / "docs"
CALL = "a model is called"


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def snippet(page: str) -> str:
    code: str
    [code] = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return code


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    """Two drafts, an essay of each, with ids."""
    names = {stage: tmp_path / "2_tasks" / f"{stage}_tasks.csv" for stage in ("draft", "essay")}
    (tmp_path / "2_tasks").mkdir()
    drafts = list(reserve_tasks([DraftTask(task_id=f"d-{n}") for n in range(2)], DraftTask))
    write_tasks(names["draft"], drafts)
    rows = [EssayTask(task_id=f"e-{n}", draft_task_id=f"d-{n}") for n in range(2)]
    write_tasks(names["essay"], reserve_tasks(rows, EssayTask, parents=drafts))
    return names


def run(place: Path, *command: str, fails: bool = False, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=place,
        env={**os.environ, "HOME": str(place), "XDG_CACHE_HOME": str(place / "cache"), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stdout
    return done.stdout


def texts_are_whole(place: Path, tables: dict[str, Path]) -> bool:
    report = audit(DocsStore(place / "docs"), tables, verify=True)
    assert not report.findings
    return all(report.stages[stage].written == 2 for stage in tables)


def essay_rows(tables: dict[str, Path]) -> list[TaskRow]:
    return list(read_tasks(tables["essay"], EssayTask))


@needs("prefect")
def test_prefect_caches_by_doc_id_and_calls_no_model_twice(tmp_path: Path, tables: dict[str, Path]) -> None:
    (tmp_path / "essays.py").write_text(snippet("prefect.md"), encoding="utf-8")
    environment = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        # On a slow machine its server takes longer to start than the 20 s that it is given.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "DO_NOT_TRACK": "1",
    }

    first = run(tmp_path, "essays.py", env=environment)
    assert first.count(CALL) == 4
    assert texts_are_whole(tmp_path, tables)
    ids = [row.doc_id for row in essay_rows(tables)]
    assert str(ids) in first
    assert (tmp_path / "prefect" / "storage" / f"essay-{ids[0]}").exists()  # a result, under the doc id

    again = run(tmp_path, "essays.py", env=environment)
    assert again.count("Cached") == 4
    assert CALL not in again
    assert str(ids) in again

    # With the cache set aside the store decides: it keeps what is there, and what it refuses is not tried again.
    taken = tables["essay"].read_text(encoding="utf-8").replace("e-0", "e-9")
    tables["essay"].write_text(taken, encoding="utf-8")
    refused = run(tmp_path, "essays.py", fails=True, env={**environment, "PREFECT_TASKS_REFRESH_CACHE": "true"})
    assert "LineageConflict" in refused
    assert "Retry 1/2" not in refused
    assert CALL not in refused
    assert "Cached" not in refused


@needs("snakemake")
def test_snakemake_makes_what_is_missing_and_tears_no_document(tmp_path: Path, tables: dict[str, Path]) -> None:
    (tmp_path / "Snakefile").write_text(snippet("snakemake.md"), encoding="utf-8")
    command = ("-m", "snakemake", "--cores", "1")

    first = run(tmp_path, *command)
    assert first.count(CALL) == 4
    assert texts_are_whole(tmp_path, tables)
    assert "Nothing to be done" in run(tmp_path, *command)

    # It runs every rule again: the documents are there, and stay whole.
    forced = run(tmp_path, *command, "--forceall")
    assert forced.count("rule essay") == 2
    assert CALL not in forced
    assert texts_are_whole(tmp_path, tables)


@needs("snakemake")
def test_snakemake_reports_a_reply_that_was_not_parsed_and_keeps_it(tmp_path: Path, tables: dict[str, Path]) -> None:
    code = snippet("snakemake.md").replace("parsed_text=text, prompt_text=prompt", "prompt_text=prompt")
    (tmp_path / "Snakefile").write_text(code, encoding="utf-8")

    run(tmp_path, "-m", "snakemake", "--cores", "1", "--keep-going", fails=True)

    store = DocsStore(tmp_path / "docs")
    for row in essay_rows(tables):
        document = store.read("essay", row.doc_id, verify=True)
        assert (document.parsed_text, document.raw_text) == (None, f"A text about A text about d-{row.task_id[-1]}")


def names_of_docid(code: str) -> list[tuple[str, str]]:
    """Return what a snippet takes from docid, by module: what it imports, and what it asks of the classes there."""
    tree = ast.parse(code)
    imported = [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "docid"
        for alias in node.names
    ]
    modules = {name: module for module, name in imported}
    asked = [
        (f"{modules[node.value.id]}.{node.value.id}", node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    ]
    return imported + asked


def is_there(place: str, name: str) -> bool:
    try:
        return hasattr(pkgutil.resolve_name(place), name)
    except (AttributeError, ImportError):
        return False


def test_what_the_airflow_snippet_takes_from_docid_is_there() -> None:
    # Airflow pins the versions of what it needs, so that it is not run here.
    found = names_of_docid(snippet("airflow.md"))
    assert {("docid", "DocsStore"), ("docid.tables.lookup", "index_of"), ("docid.Document", "from_task")} <= set(found)
    assert [each for each in found if not is_there(*each)] == []


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("from docid import DocStore", ("docid", "DocStore")),
        ("from docid.index import index_of", ("docid.index", "index_of")),
        ("from docid import Document\nDocument.from_row(1)", ("docid.Document", "from_row")),
    ],
)
def test_a_name_that_docid_does_not_have_is_seen(code: str, missing: tuple[str, str]) -> None:
    assert [each for each in names_of_docid(code) if not is_there(*each)] == [missing]
