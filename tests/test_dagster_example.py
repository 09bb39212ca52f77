"""The Dagster example, run as a program."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from docid import DocsStore
from tests.servers import Moto


def run_example(environment: dict[str, str], *runs: list[str]) -> list[list[str]]:
    """Run the example in one new process, once per list of options; return the lines that each run prints."""
    program = "import sys, json; from examples.dagster_essays.__main__ import main\n"
    program += "for options in json.loads(sys.argv[1]): assert main(options) == 0; print('--')"
    command = [sys.executable, "-W", "ignore", "-c", program, json.dumps(runs)]
    root = Path(__file__).parent.parent
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [printed.splitlines() for printed in done.stdout.split("--\n")[:-1]]


def test_example_runs_then_keeps_then_replays(tmp_path: Path) -> None:
    environment = {"ESSAYS_DATA_ROOT": str(tmp_path)}
    assert run_example(environment, ["--fresh"]) == [
        [
            "tables: 1 run: 4 written",
            "draft: 4 runs: 4 created",
            "essay: 8 runs: 8 created",
            "evaluation: 16 runs: 16 created",
            "scores: 1 run: 1 written",
        ]
    ]
    # One essay that a model wrote, and one that copies its draft.
    essays = [path.parent for path in (tmp_path / "docs" / "essay").glob("*/metadata.json")]
    written, copied = (
        next(each.name for each in essays if (each / "prompt.txt").exists() is kind) for kind in (True, False)
    )
    again, draft, *replays = run_example(
        environment, [], ["--replay"], *(["--replay", f"essay/{name}"] for name in (written, copied))
    )
    assert again[1:4] == ["draft: 4 runs: 4 kept", "essay: 8 runs: 4 kept, 4 unchanged", "evaluation: 16 runs: 16 kept"]
    # The same text, noted for another run; a copy is not made by a run.
    assert [line.endswith("replayed: replaced") for line in draft] == [True]
    assert replays == [[f"essay/{written} replayed: replaced"], [f"essay/{copied} replayed: unchanged"]]
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 17
    assert json.loads(next((tmp_path / "docs" / "draft").glob("*/metadata.json")).read_text())["generation_model_name"]


def test_example_runs_on_an_object_store(tmp_path: Path, s3: Moto) -> None:
    url, raw = s3.bucket(), tmp_path / "1_raw"
    # One template and one model give one draft, because each document's run takes long.
    shutil.copytree(Path(__file__).parent.parent / "examples" / "essays" / "data" / "1_raw", raw)
    for name, line in (("draft_templates.csv", "thread-v1"), ("llm_models.csv", "small-1")):
        lines = (raw / name).read_text().splitlines(keepends=True)
        (raw / name).write_text("".join(each for each in lines if not each.startswith(line)))
    environment = {"ESSAYS_DATA_ROOT": str(tmp_path), "ESSAYS_RAW_DATA": str(raw), "ESSAYS_STORE": url}
    environment |= s3.environment()
    [first] = run_example(environment, [])
    assert first[1:4] == ["draft: 1 run: 1 created", "essay: 2 runs: 2 created", "evaluation: 4 runs: 4 created"]
    [again] = run_example(environment, [])
    assert again[3] == "evaluation: 4 runs: 4 kept"
    store = DocsStore(url, options=s3.options())
    assert len(list(store.ids("evaluation"))) == 4
    assert not (tmp_path / "docs").exists()
