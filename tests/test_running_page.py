"""docs/running.md: its programs run unchanged, with the client `openai`, against a server on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from docid import DocsStore, DraftTask, StoredDocument, read_tasks, reserve_tasks, write_tasks
from tests.model_server import ModelServer
from tests.servers import Moto

PAGE = Path(__file__).parent.parent / "docs" / "running.md"
ROWS = 24
# Each makes all missing documents of the table.
WRITERS = [
    *("one_by_one.py", "write.py", "write_async.py", "retries.py", "limit.py", "limit_async.py"),
    *("failures.py", "sigterm.py", "sigterm_async.py"),
]

pytestmark = [
    pytest.mark.integration("openai"),
    pytest.mark.integration("pyrate_limiter"),
    pytest.mark.integration("tenacity"),
]


def read_programs() -> dict[str, str]:
    """Return the programs of the page by name. The first line of each is its name."""
    blocks = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return dict(blocks)


class Programs:
    """The programs in a directory with a table of reserved rows.

    Args:
        directory: the directory.
        model: the server that the programs call.
    """

    def __init__(self, directory: Path, model: ModelServer) -> None:
        self.directory, self.model = directory, model
        self.environment = {**os.environ, **model.environment(), "HOME": str(directory), "PYTHONUTF8": "1"}
        for name, code in read_programs().items():
            (directory / name).write_text(code, "utf-8")
        self.write_table(ROWS)

    @property
    def store(self) -> DocsStore:
        return DocsStore(self.directory / "docs")

    def write_table(self, count: int) -> None:
        rows = (
            DraftTask(task_id=f"t-{n}", generation_model_name="large", extra={"topic": f"topic {n}"})
            for n in range(count)
        )
        write_tasks(self.directory / "draft_tasks.csv", reserve_tasks(rows, DraftTask))

    def start(self, name: str) -> subprocess.Popen[str]:
        warnings = "ignore" if name == "cluster.py" else "error"  # distributed closes some sockets late
        return subprocess.Popen(
            [sys.executable, "-W", warnings, name],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, *, code: int = 0) -> str:
        """Run a program to its end, and return its output; that of standard error if it must fail."""
        process = self.start(name)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == code, output + errors
        return output if code == 0 else errors

    def documents(self) -> list[StoredDocument]:
        return list(self.store.documents("draft"))

    def has_claims(self) -> bool:
        return bool(list(self.directory.rglob(".claim-*")))


@pytest.fixture
def programs(tmp_path: Path, model: ModelServer) -> Programs:
    return Programs(tmp_path, model)


def test_every_block_is_a_program_that_a_test_runs() -> None:
    text = PAGE.read_text("utf-8")
    assert len(read_programs()) == text.count("```python\n")
    assert set(read_programs()) == {*WRITERS, "pipeline.py", "cluster.py", "left.py", "again.py"}


@pytest.mark.parametrize("name", WRITERS)
def test_first_run_makes_one_call_per_row_and_second_run_none(programs: Programs, name: str) -> None:
    programs.run(name)
    prompts = sorted(f"Write about topic {n}." for n in range(ROWS))
    assert sorted(programs.model.answered) == prompts
    assert len(programs.model.requests) == ROWS
    for document in programs.documents():
        assert document.raw_text == f"A reply to: {document.prompt_text}"
        assert document.metadata["model"] == "large-served"
        assert document.metadata["usage"]["total_tokens"] == 11
    assert sorted(str(document.prompt_text) for document in programs.documents()) == prompts
    programs.run(name)
    assert len(programs.model.requests) == ROWS
    assert not programs.has_claims()


@pytest.mark.parametrize(("name", "most"), [("write.py", 16), ("write_async.py", 64)])
def test_as_many_calls_run_at_once_as_the_page_says(programs: Programs, name: str, most: int) -> None:
    programs.write_table(100)
    programs.model.seconds = 0.6
    programs.run(name)
    assert len(programs.model.answered) == 100
    assert programs.model.most == most


def test_several_processes_share_a_table(programs: Programs) -> None:
    programs.model.seconds = 0.1
    processes = [programs.start(name) for name in ("write.py", "write.py", "write_async.py", "one_by_one.py")]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(programs.model.answered) == ROWS
    assert sum(output.count("created") for output in outputs) == ROWS
    assert sum(output.count("kept") for output in outputs) == 3 * ROWS
    assert not programs.has_claims()


def test_workers_of_a_cluster_share_a_table(programs: Programs, s3: Moto) -> None:
    pytest.importorskip("distributed")
    urllib.request.urlopen(urllib.request.Request(f"{s3.endpoint}/bucket", method="PUT"), timeout=30).read()
    programs.model.seconds = 1
    programs.environment |= s3.environment()
    # A counter prints equal numbers in the order in which it has met their keys.
    printed = programs.run("cluster.py").strip().removeprefix("Counter({").removesuffix("})")
    assert sorted(printed.split(", ")) == [f"'created': {ROWS}", f"'kept': {ROWS}"]
    assert len(programs.model.answered) == ROWS
    assert programs.model.most > 16  # a single worker makes 16 calls at once
    store = DocsStore("s3://bucket/docs", options=s3.options())
    assert len(list(store.ids("draft"))) == ROWS


def test_tenacity_retries_calls_that_fail(programs: Programs) -> None:
    programs.model.faults.extend([429, 500, 503, 429])
    assert programs.run("retries.py").count("created") == ROWS
    assert len(programs.model.requests) == ROWS + 4


@pytest.mark.parametrize("name", ["limit.py", "limit_async.py"])
def test_limiter_limits_the_calls_per_second(programs: Programs, name: str) -> None:
    programs.run(name)
    times = [request.time for request in programs.model.requests]
    assert all(last - first > 0.9 for first, last in zip(times, times[10:], strict=False))


def test_failures_are_printed_and_tried_again_by_the_next_run(programs: Programs) -> None:
    programs.model.faults.extend([400] * 3)
    output = programs.run("failures.py")
    assert output.count("BadRequestError") == len(output.splitlines()) == 3
    assert len(programs.documents()) == ROWS - 3
    assert programs.run("failures.py") == ""
    assert len(programs.model.answered) == ROWS


def test_expired_key_stops_the_run(programs: Programs) -> None:
    programs.write_table(200)
    programs.model.status = 401
    errors = programs.run("failures.py", code=1)
    assert "TooManyFailures" in errors
    assert 20 <= len(programs.model.requests) < 100


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        ("write.py", signal.SIGINT, -signal.SIGINT),
        ("sigterm.py", signal.SIGTERM, 128 + signal.SIGTERM),
        ("sigterm_async.py", signal.SIGTERM, 0),
    ],
)
def test_stopped_run_stores_the_calls_under_way(
    programs: Programs, name: str, number: signal.Signals, code: int
) -> None:
    programs.write_table(200)
    programs.model.seconds = 0.4
    process = programs.start(name)
    assert process.stdout is not None
    process.stdout.readline() if name != "write.py" else wait_for(lambda: len(programs.model.requests) > 16)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert 16 <= len(programs.documents()) == len(programs.model.answered) == len(programs.model.requests) < 200
    assert not programs.has_claims()
    programs.model.seconds = 0
    programs.run(name)
    assert len(programs.model.answered) == 200


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_second_ctrl_c_ends_the_wait(programs: Programs) -> None:
    programs.model.seconds = 30
    process = programs.start("write.py")
    wait_for(lambda: len(programs.model.requests) == 16)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=25)
    assert process.returncode == -signal.SIGINT
    assert programs.documents() == []


def test_ctrl_c_cancels_async_calls_and_the_next_run_makes_them(programs: Programs) -> None:
    programs.model.seconds = 10
    process = programs.start("write_async.py")
    wait_for(lambda: len(programs.model.requests) > 0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert not programs.has_claims()
    assert programs.documents() == []
    programs.model.seconds = 0
    programs.run("write_async.py")
    assert len(programs.documents()) == ROWS


def test_left_counts_rows_without_a_document(programs: Programs) -> None:
    assert programs.run("left.py") == f"{ROWS} of {ROWS} rows have no document\n"
    programs.model.faults.extend([400] * 5)
    programs.run("failures.py")
    assert programs.run("left.py") == f"5 of {ROWS} rows have no document\n"


def test_replacing_run_continues_where_it_stopped(programs: Programs) -> None:
    programs.run("write.py")
    programs.model.faults.extend([400] * 5)
    assert programs.run("again.py") == f"{ROWS - 5} calls, {11 * (ROWS - 5)} tokens\n"
    assert programs.run("again.py") == f"5 calls, {11 * 5} tokens\n"
    assert programs.run("again.py") == "0 calls, 0 tokens\n"
    for row in read_tasks(programs.directory / "draft_tasks.csv", DraftTask):
        assert len(list(programs.store.history("draft", row.doc_id))) == 1
