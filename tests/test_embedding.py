"""The pages on other orchestrators: each orchestrator runs the snippet of its page unchanged."""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import shutil
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
# By default Snakemake waits 5 s for a missing output, because network file systems are slow.
SNAKEMAKE = ("-m", "snakemake", "--cores", "2", "--latency-wait", "0")


def read_snippets(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    """Reserved tables of two drafts and one essay per draft."""
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


def has_all_documents(place: Path, tables: dict[str, Path]) -> bool:
    report = audit(DocsStore(place / "docs"), tables, verify=True)
    assert not report.findings
    return all(report.stages[stage].written == 2 for stage in tables)


def read_essay_rows(tables: dict[str, Path]) -> list[TaskRow]:
    return list(read_tasks(tables["essay"], EssayTask))


@contextmanager
def prefect_server(place: Path) -> Iterator[dict[str, str]]:
    """Start a Prefect server, and return the environment variables that point to it.

    Otherwise each run would start a server of its own, which takes most of the run's time.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = {"PREFECT_HOME": str(place / "prefect"), "DO_NOT_TRACK": "1", "PREFECT_API_URL": url}
    # The server runs no code that coverage measures.
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
def test_prefect_caches_by_doc_id(tmp_path: Path, tables: dict[str, Path]) -> None:
    essays, whole_tables = read_snippets("prefect.md")
    (tmp_path / "essays.py").write_text(essays, encoding="utf-8")
    (tmp_path / "tables.py").write_text(whole_tables, encoding="utf-8")
    with prefect_server(tmp_path) as environment:
        first = run(tmp_path, "essays.py", env=environment)
        assert first.count(CALL) == 4
        assert has_all_documents(tmp_path, tables)
        ids = [row.doc_id for row in read_essay_rows(tables)]
        assert str(ids) in first
        assert (tmp_path / "prefect" / "storage" / f"essay-{ids[0]}").exists()  # the cache key is the doc id

        again = run(tmp_path, "essays.py", env=environment)
        assert again.count("Cached") == 4
        assert CALL not in again
        assert str(ids) in again

        # The flow of whole tables keeps these documents, and makes a missing one.
        assert CALL not in run(tmp_path, "tables.py", env=environment)
        shutil.rmtree(tmp_path / "docs" / "essay" / ids[1])
        assert run(tmp_path, "tables.py", env=environment).count(CALL) == 1
        assert has_all_documents(tmp_path, tables)

        # Without the cache the store decides: it refuses the changed row, and Prefect does not retry the task.
        changed = tables["essay"].read_text(encoding="utf-8").replace("e-0", "e-9")
        tables["essay"].write_text(changed, encoding="utf-8")
        refused = run(tmp_path, "essays.py", fails=True, env={**environment, "PREFECT_TASKS_REFRESH_CACHE": "true"})
        assert "LineageConflict" in refused
        assert "Retry 1/2" not in refused
        assert CALL not in refused
        assert "Cached" not in refused


@pytest.mark.integration("snakemake")
def test_snakemake_creates_missing_and_keeps_existing_documents(tmp_path: Path, tables: dict[str, Path]) -> None:
    common, rules, _ = read_snippets("snakemake.md")
    (tmp_path / "Snakefile").write_text(common + rules, encoding="utf-8")
    first = run(tmp_path, *SNAKEMAKE)
    assert first.count(CALL) == 4
    assert has_all_documents(tmp_path, tables)
    assert "Nothing to be done" in run(tmp_path, *SNAKEMAKE)

    # --forceall runs every rule again; the existing documents stay unchanged.
    forced = run(tmp_path, *SNAKEMAKE, "--forceall")
    assert forced.count("rule essay") == 2
    assert CALL not in forced
    assert has_all_documents(tmp_path, tables)


@pytest.mark.integration("snakemake")
def test_snakemake_reports_and_completes_unparsed_reply(tmp_path: Path, tables: dict[str, Path]) -> None:
    common, rules, _ = read_snippets("snakemake.md")
    code = common + rules
    broken = code.replace("prompt=essay_prompt, parse=str.strip", "prompt=essay_prompt, parse=lambda text: None")
    assert broken != code
    (tmp_path / "Snakefile").write_text(broken, encoding="utf-8")

    store = DocsStore(tmp_path / "docs")
    for draft in read_tasks(tables["draft"], DraftTask):
        text = f"A text about {draft.task_id}"
        store.write(Document.from_task(draft, raw_text=text, parsed_text=text))

    run(tmp_path, *SNAKEMAKE, "--keep-going", fails=True)

    for row in read_essay_rows(tables):
        document = store.read("essay", row.doc_id, verify=True)
        assert (document.parsed_text, document.raw_text) == (None, f"A text about A text about d-{row.task_id[-1]}")

    (tmp_path / "Snakefile").write_text(code, encoding="utf-8")
    assert CALL not in run(tmp_path, *SNAKEMAKE)
    for row in read_essay_rows(tables):
        document = store.read("essay", row.doc_id, verify=True)
        assert document.parsed_text == document.raw_text


@pytest.mark.integration("snakemake")
def test_snakemake_makes_whole_tables(tmp_path: Path, tables: dict[str, Path]) -> None:
    common, _, rules = read_snippets("snakemake.md")
    (tmp_path / "Snakefile").write_text(common + rules, encoding="utf-8")
    assert run(tmp_path, *SNAKEMAKE).count(CALL) == 4
    assert has_all_documents(tmp_path, tables)
    assert "Nothing to be done" in run(tmp_path, *SNAKEMAKE)

    # A row that fails fails its job; the next run makes only what is missing.
    changed = common.replace('print("a model is called")', 'print("a model is called"); 1 / 0')
    (tmp_path / "Snakefile").write_text(changed + rules, encoding="utf-8")
    [row, _] = read_essay_rows(tables)
    shutil.rmtree(tmp_path / "docs" / "essay" / row.doc_id)
    failed = run(tmp_path, *SNAKEMAKE, "--forceall", fails=True)
    assert failed.count(CALL) == 1
    assert "ZeroDivisionError" in failed
    (tmp_path / "Snakefile").write_text(common + rules, encoding="utf-8")
    assert run(tmp_path, *SNAKEMAKE).count(CALL) == 1
    assert has_all_documents(tmp_path, tables)


def find_used_names(code: str) -> list[tuple[str, str]]:
    """Return the names that a snippet uses, each with its module or class: imports, and attributes of imported classes."""
    tree = ast.parse(code)
    imported = [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "docid"
        for alias in node.names
    ]
    modules = {name: module for module, name in imported}
    attributes = [
        (f"{modules[node.value.id]}.{node.value.id}", node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    ]
    return imported + attributes


def exists(place: str, name: str) -> bool:
    try:
        return hasattr(pkgutil.resolve_name(place), name)
    except (AttributeError, ImportError):
        return False


def test_airflow_snippet_uses_existing_names() -> None:
    # Airflow pins its dependencies, so the tests do not run it.
    found = find_used_names("".join(read_snippets("airflow.md")))
    assert {("docid", "DocsStore"), ("docid.tables.lookup", "index_of")} <= set(found)
    assert [each for each in found if not exists(*each)] == []


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("from docid import DocStore", ("docid", "DocStore")),
        ("from docid.index import index_of", ("docid.index", "index_of")),
        ("from docid import Document\nDocument.from_row(1)", ("docid.Document", "from_row")),
    ],
)
def test_unknown_name_in_snippet_is_found(code: str, missing: tuple[str, str]) -> None:
    assert [each for each in find_used_names(code) if not exists(*each)] == [missing]
