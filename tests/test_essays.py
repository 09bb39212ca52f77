"""The essays example, run as a program."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from examples.essays.generators import OfflineStandIn
from examples.essays.inputs import Inputs
from examples.essays.parsers import PARSERS, essay_block, essay_idea_last, score_in_last_line, score_out_of_ten
from examples.essays.tables import combinations, write_tables

from docid import DocsStore, DraftTask, EvaluationTask, read_tasks, reserve_tasks, write_tasks
from tests.model_server import ModelServer

ROOT = Path(__file__).parent.parent
STORED = {"draft": 4, "essay": 8, "evaluation": 16}


def command(data_root: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "examples.essays", "--data-root", str(data_root), "--durability", "none", *options]


def run(data_root: Path, *options: str, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        command(data_root, *options),
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code != 2 else done.stderr


def store_of(data_root: Path) -> DocsStore:
    return DocsStore(data_root / "docs", durability="none")


def read_files(data_root: Path) -> dict[str, bytes]:
    """Return the bytes and the modification time of every stored file."""
    return {
        str(path.relative_to(data_root)): path.read_bytes() + str(path.stat().st_mtime_ns).encode()
        for path in (data_root / "docs").rglob("*")
        if path.is_file()
    }


def test_first_run_writes_all_and_second_run_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert "28 of 28 rows have their document and its parent" in first
    assert "28 documents written, 24 model calls" in first
    assert "peak memory" in first
    store = store_of(tmp_path)
    assert {stage: len(list(store.ids(stage))) for stage in store.stages} == STORED
    for stage in store.stages:
        for document in store.documents(stage):
            read = document.read(verify=True)
            copied = stage == "essay" and read.metadata["template_id"] == "as-drafted-v1"
            assert (read.prompt_text is None) == copied
            assert read.parsed_text
            assert set(read.metadata) == {"template_id", "model_id", "combo_id"}
            if read.parent_doc_id:
                parent = store.read(str(store.stages.parent_of(stage)), read.parent_doc_id)
                assert (parent.parsed_text or "") in (read.prompt_text or read.raw_text)
    before = read_files(tmp_path)
    second = run(tmp_path)
    assert "0 documents written, 0 model calls: every document existed" in second
    assert re.search(r"evaluation +16 +0 +16 +0 +0", second)
    assert read_files(tmp_path) == before


def test_ids_are_the_same_in_another_directory(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name)
    assert tables(tmp_path / "one") == tables(tmp_path / "two")
    ids = [sorted(store_of(tmp_path / name).ids("evaluation")) for name in ("one", "two")]
    assert ids[0] == ids[1]


def tables(data_root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data_root / "2_tasks").iterdir()}


def test_source_doc_id_sends_stored_prompt_again(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "2_tasks" / "draft_generation_tasks.csv"
    rows = list(read_tasks(path, DraftTask))
    source = store_of(tmp_path).read("draft", rows[0].doc_id)
    again = DraftTask(
        task_id="again",
        draft_template=rows[0].draft_template,
        generation_model="small-1",
        generation_model_name="example/other",
        source_doc_id=rows[0].doc_id,
    )
    write_tasks(path, reserve_tasks([*rows, again], DraftTask))
    assert "1 document written, 1 model call" in run(tmp_path, "--keep-tables")
    [row] = [row for row in read_tasks(path, DraftTask) if row.task_id == "again"]
    made = store_of(tmp_path).read("draft", row.doc_id)
    assert made.prompt_text == source.prompt_text
    assert made.raw_text == OfflineStandIn().generate(source.prompt_text or "", "example/other")
    assert made.raw_text != source.raw_text


def test_missing_source_fails_before_any_model_call(tmp_path: Path) -> None:
    run(tmp_path)
    shutil.rmtree(tmp_path / "docs")
    path = tmp_path / "2_tasks" / "draft_generation_tasks.csv"
    rows = list(read_tasks(path, DraftTask))
    again = DraftTask(task_id="again", draft_template=rows[0].draft_template, source_doc_id="zz")
    write_tasks(path, reserve_tasks([*rows, again], DraftTask))
    assert "draft/zz is not in the store" in run(tmp_path, "--keep-tables", code=2)
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "draft_template",
            "gone-v9",
            "draft_generation_tasks.csv, task combo_v1_6e2634bed573__pairs-v1__small-1: the inputs have no draft_template 'gone-v9'",
        ),
        ("combo_id", "combo_v1_0", "the inputs have no combo_id 'combo_v1_0'"),
        ("doc_id", "", "draft_generation_tasks.csv row 2, column doc_id: missing"),
    ],
)
def test_invalid_row_fails_before_any_model_call(tmp_path: Path, column: str, value: str, message: str) -> None:
    run(tmp_path)
    shutil.rmtree(tmp_path / "docs")
    path = tmp_path / "2_tasks" / "draft_generation_tasks.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0][column] = value
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert message in run(tmp_path, "--keep-tables", code=2)
    assert not (tmp_path / "docs").exists()


def test_unparsable_reply_is_kept(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("No number at all.")
    output = run(tmp_path / "out", "--replies", str(tmp_path))
    assert re.search(r"evaluation +16 +16 +0 +16 +16\n", output)
    for document in store_of(tmp_path / "out").documents("evaluation"):
        assert (document.raw_text, document.parsed_text) == ("No number at all.", None)


def test_fresh_removes_only_files_of_the_program(tmp_path: Path) -> None:
    raw = tmp_path / "1_raw"
    shutil.copytree(ROOT / "examples" / "essays" / "data" / "1_raw", raw)
    (tmp_path / "mine.txt").write_text("precious")
    for _ in range(2):
        assert "28 documents written" in run(tmp_path, "--fresh", "--raw-data", str(raw))
    assert (tmp_path / "mine.txt").read_text() == "precious"
    (raw / "generation_templates" / "draft" / "pairs-v1.txt").write_text("{% for %}")
    assert "TemplateSyntaxError" in run(tmp_path, "--fresh", "--raw-data", str(raw), code=2)
    assert len(list(store_of(tmp_path).ids("draft"))) == 4


def test_wrong_input_prints_one_line(tmp_path: Path) -> None:
    assert "concepts_metadata.csv" in run(tmp_path / "out", "--raw-data", str(tmp_path), code=2)
    assert "expected recorded replies" in run(tmp_path / "out", "--replies", str(tmp_path), code=2)


# --- an endpoint -----------------------------------------------------------------------------------------------


CONTENT = "<essay-idea>so</essay-idea> Final Score: 4/10\nSCORE: 4"


@pytest.fixture
def endpoint(model: ModelServer) -> ModelServer:
    model.content = lambda prompt: CONTENT
    return model


def test_environment_variable_selects_endpoint(tmp_path: Path, endpoint: ModelServer) -> None:
    output = run(tmp_path, ESSAYS_BASE_URL=endpoint.url, ESSAYS_API_KEY="k3y")
    assert "OpenAICompatible" in output
    assert "k3y" not in output
    assert len(endpoint.answered) == 24
    assert {request.key for request in endpoint.requests} == {"Bearer k3y"}
    assert {request.body["model"] for request in endpoint.requests} == {"example/small-1", "example/large-1"}
    for stored in store_of(tmp_path).documents("draft"):
        assert stored.prompt_text in endpoint.answered
        assert stored.raw_text == CONTENT
    assert {document.parsed_text for document in store_of(tmp_path).documents("evaluation")} == {"4.0\n"}


@pytest.mark.parametrize("form", [[], ["--async"]])
def test_64_calls_at_once_make_one_call_per_document(tmp_path: Path, endpoint: ModelServer, form: list[str]) -> None:
    endpoint.seconds = 0.6
    raw = tmp_path / "1_raw"
    shutil.copytree(ROOT / "examples" / "essays" / "data" / "1_raw", raw)
    with (raw / "llm_models.csv").open("a") as models:
        models.writelines(f"judge-{n},example/judge-{n},example,Judge {n},false,true,\n" for n in range(3, 6))
    options = ["--raw-data", str(raw), "--combination-size", "2", "--concurrency", "64", *form]
    output = run(tmp_path, *options, ESSAYS_BASE_URL=endpoint.url)
    assert "228 of 228 rows have their document and its parent" in output
    assert "228 documents written, 216 model calls" in output
    assert len(endpoint.answered) == len(endpoint.requests) == 216
    assert endpoint.most == 64
    assert "0 documents written, 0 model calls" in run(tmp_path, *options, ESSAYS_BASE_URL=endpoint.url)
    assert len(endpoint.requests) == 216


@pytest.mark.parametrize("form", [[], ["--async"]])
def test_ctrl_c_stores_the_calls_under_way(tmp_path: Path, endpoint: ModelServer, form: list[str]) -> None:
    endpoint.seconds = 0.5
    environment = {**os.environ, "ESSAYS_BASE_URL": endpoint.url}
    arguments = command(tmp_path, "--concurrency", "2", *form)
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    while len(endpoint.requests) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == "essays: interrupted; the next run makes the missing documents\n"
    assert len(endpoint.requests) < 24
    endpoint.seconds = 0
    run(tmp_path, ESSAYS_BASE_URL=endpoint.url)
    assert len(endpoint.answered) == 24


def test_next_run_completes_killed_run(tmp_path: Path, endpoint: ModelServer) -> None:
    evaluations = tmp_path / "docs" / "evaluation"

    def count_entries() -> int:
        names = os.listdir(evaluations) if evaluations.is_dir() else []
        return sum(not name.startswith(".claim-") for name in names)

    def kill_during_write() -> None:
        existing = count_entries()
        if existing > 3:
            while process.poll() is None and count_entries() == existing:
                time.sleep(0.0005)
            process.kill()

    endpoint.after = kill_during_write
    environment = {**os.environ, "ESSAYS_BASE_URL": endpoint.url}
    arguments = command(tmp_path, "--combination-size", "1")
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    assert process.wait() == -signal.SIGKILL
    store = store_of(tmp_path)
    stored = {stage: len([document.read(verify=True) for document in store.documents(stage)]) for stage in store.stages}
    assert stored["draft"] == 12
    assert 4 <= stored["evaluation"] < 48
    endpoint.after = lambda: None
    output = run(tmp_path, "--combination-size", "1", ESSAYS_BASE_URL=endpoint.url)
    assert "84 of 84 rows have their document and its parent" in output
    assert f"{84 - sum(stored.values())} documents written" in output


def test_several_runs_at_once_call_the_model_once_for_each_document(tmp_path: Path, endpoint: ModelServer) -> None:
    inputs = Inputs(ROOT / "examples" / "essays" / "data" / "1_raw")
    write_tables(tmp_path / "2_tasks", inputs, combinations(inputs, 6))
    environment = {**os.environ, "ESSAYS_BASE_URL": endpoint.url}
    arguments = [command(tmp_path, "--keep-tables", *form) for form in ([], ["--async"]) * 2]
    runs = [subprocess.Popen(each, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for each in arguments]
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    assert len(endpoint.requests) == 24
    created = [int(re.findall(r"(\d+) documents? written", output)[0]) for output in outputs]
    assert sum(created) == 28
    assert not list((tmp_path / "docs").rglob(".claim-*"))


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (429, b"slow down", r"answered 429 for example/\w+-1: b'slow down'"),
        (200, b"<html>", "gave no reply"),
        (200, b'{"choices": []}', "gave no reply"),
        (200, b'{"choices": [{"message": {"content": null}}]}', "gave no text"),
    ],
)
def test_bad_reply_of_endpoint_prints_one_line_and_stores_nothing(
    tmp_path: Path, endpoint: ModelServer, status: int, body: bytes, message: str
) -> None:
    endpoint.status, endpoint.body = status, body
    errors = run(tmp_path, ESSAYS_BASE_URL=endpoint.url, code=2)
    assert re.search(message, errors)
    assert len(errors.splitlines()) == 1
    assert 1 <= len(endpoint.requests) <= 4
    assert list(store_of(tmp_path).ids("draft")) == []


def test_child_of_unparsed_parent_is_reported_and_not_made(tmp_path: Path, endpoint: ModelServer) -> None:
    endpoint.content = lambda prompt: "no idea"
    output = run(tmp_path, ESSAYS_BASE_URL=endpoint.url, code=1)
    assert re.search(r"draft +4 +4 +0 +4 +2\n", output)  # one of two templates has a parser
    assert re.search(r"essay +8 +4 +0 +2 +0\n", output)
    assert re.search(r"skipped: .*thread-v1__.*: its parent draft/\w+ has no parsed text", output)
    assert "16 of 28 rows" in output
    assert "is not written" in output


def test_unreachable_endpoint_prints_one_line(tmp_path: Path) -> None:
    assert "gave no reply" in run(tmp_path, ESSAYS_BASE_URL="http://127.0.0.1:9", code=2)


# --- parsers, and the real data --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parser", "text", "parsed"),
    [
        (essay_block, "a<essay>\nb\n</essay>c<essay>d</essay>", "b"),
        (essay_block, "<essay>never closed", None),
        (essay_idea_last, "<essay-idea>a</essay-idea><essay-idea n='2'> b </essay-idea>", "b"),
        (essay_idea_last, "nothing", None),
        (score_in_last_line, "text\nSCORE: 7\n\n", "7.0\n"),
        (score_in_last_line, "**SCORE:** 6.5/10", "6.5\n"),
        (score_in_last_line, "SCORE: 7\nand more", None),
        (score_in_last_line, "", None),
        (score_out_of_ten, "Score: 1/1. Total Score: 6.5/10, so\nSCORE: 7", "6.5\n"),
        (score_out_of_ten, "### **Final Score**\n**2/10**", "2.0\n"),
        (score_out_of_ten, "- **Score**: 1/2\n### **SCORE: 5/10**", "5.0\n"),
        (score_out_of_ten, "Score: 1/100", None),
        (PARSERS[""], "as it is\n", "as it is\n"),
    ],
)
def test_parsers(parser: Any, text: str, parsed: str | None) -> None:
    assert parser(text) == parsed


KNOWN_SCORES = {"004": "7.0\n", "035": "5.0\n", "076": "6.5\n", "022": "2.0\n", "163": "4.0\n"}


def test_real_inputs_give_known_scores(daydreaming: Path, tmp_path: Path) -> None:
    raw = tmp_path / "1_raw"
    shutil.copytree(daydreaming / "1_raw", raw, copy_function=shutil.copyfile)
    path = raw / "evaluation_templates.csv"
    path.chmod(0o644)
    lines = path.read_text("utf-8").splitlines()
    # Activate only the templates whose replies have scores out of ten.
    path.write_text(
        "\n".join([lines[0], *(line.replace(",false,", ",true,") for line in lines if line.endswith(",complex"))])
    )
    output = run(tmp_path / "out", "--raw-data", str(raw), "--replies", str(daydreaming / "eval_responses"))
    assert "150 of 150 rows have their document and its parent" in output
    replies = {(daydreaming / "eval_responses" / f"{name}.txt").read_text("utf-8"): name for name in KNOWN_SCORES}
    found = {
        replies[document.raw_text]: document.parsed_text
        for document in store_of(tmp_path / "out").documents("evaluation")
        if document.raw_text in replies
    }
    assert found == KNOWN_SCORES


def test_all_real_templates_give_full_tables(daydreaming: Path, tmp_path: Path) -> None:
    inputs = Inputs(daydreaming / "1_raw", all_templates=True)
    counts = write_tables(tmp_path, inputs, combinations(inputs, 6))
    assert counts == {"draft": 110, "essay": 880, "evaluation": 24_640}
    rows = read_tasks(tmp_path / "evaluation_tasks.csv", EvaluationTask)
    assert len({row.doc_id for row in rows}) == 24_640
