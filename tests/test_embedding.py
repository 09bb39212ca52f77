"""The pages on other orchestrators: their snippets are run as they stand, by the orchestrators themselves."""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from docid import DocsStore, Document, DraftTask, EssayTask, TaskRow, audit, read_tasks, reserve_tasks, write_tasks

DOCS = Path(__file__).parent.parent / "docs"
CALL = "a model is called"
# Snakemake looks for a missing output for 5 s, for the sake of slow network file systems: not here.
SNAKEMAKE = ("-m", "snakemake", "--cores", "2", "--latency-wait", "0")


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


@contextmanager
def prefect_server(place: Path) -> Iterator[dict[str, str]]:
    """Start a server of Prefect, and return the variables of the environment that lead to it.

    Without one each run would start its own, which takes most of its time.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = {"PREFECT_HOME": str(place / "prefect"), "DO_NOT_TRACK": "1", "PREFECT_API_URL": url}
    # Coverage has nothing to measure in the server.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-W", "ignore", "-m", "prefect", "server", "start", "--no-services", "--port", str(port)]
    with (place / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=place, env={**inherited, "HOME": str(place), **environment}, stdout=log, stderr=log
        )
        try:
            for _ in range(600):
                with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=30):
                    break
                assert server.poll() is None, (place / "server.log").read_text()
                time.sleep(0.2)
            yield environment
        finally:
            server.terminate()
            server.wait()


@pytest.mark.integration("prefect")
def test_prefect_caches_by_doc_id_and_calls_no_model_twice(tmp_path: Path, tables: dict[str, Path]) -> None:
    (tmp_path / "essays.py").write_text(snippet("prefect.md"), encoding="utf-8")
    with prefect_server(tmp_path) as environment:
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


@pytest.mark.integration("snakemake")
def test_snakemake_makes_what_is_missing_and_tears_no_document(tmp_path: Path, tables: dict[str, Path]) -> None:
    (tmp_path / "Snakefile").write_text(snippet("snakemake.md"), encoding="utf-8")
    first = run(tmp_path, *SNAKEMAKE)
    assert first.count(CALL) == 4
    assert texts_are_whole(tmp_path, tables)
    assert "Nothing to be done" in run(tmp_path, *SNAKEMAKE)

    # It runs every rule again: the documents are there, and stay whole.
    forced = run(tmp_path, *SNAKEMAKE, "--forceall")
    assert forced.count("rule essay") == 2
    assert CALL not in forced
    assert texts_are_whole(tmp_path, tables)


@pytest.mark.integration("snakemake")
def test_snakemake_reports_a_reply_that_was_not_parsed_and_keeps_it(tmp_path: Path, tables: dict[str, Path]) -> None:
    code = snippet("snakemake.md").replace("parsed_text=text, prompt_text=prompt", "prompt_text=prompt")
    (tmp_path / "Snakefile").write_text(code, encoding="utf-8")

    store = DocsStore(tmp_path / "docs")
    for draft in read_tasks(tables["draft"], DraftTask):
        text = f"A text about {draft.task_id}"
        store.write(Document.from_task(draft, raw_text=text, parsed_text=text))

    run(tmp_path, *SNAKEMAKE, "--keep-going", fails=True)

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
