"""The Dagster example, run as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from docid import DocsStore
from tests.servers import Moto


def test_the_example_runs_whole_then_again_then_a_replay(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent

    def run(*options: str) -> list[str]:
        command = [sys.executable, "-W", "ignore", "-m", "examples.dagster_essays", *options]
        environment = {**os.environ, "ESSAYS_DATA_ROOT": str(tmp_path)}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    assert run("--fresh") == [
        "tables: 1 runs: 4 written",
        "draft: 4 runs: 4 created",
        "essay: 8 runs: 8 created",
        "evaluation: 16 runs: 16 created",
        "scores: 1 runs: 1 written",
    ]
    again = run()
    assert again[1:4] == ["draft: 4 runs: 4 kept", "essay: 8 runs: 4 kept, 4 unchanged", "evaluation: 16 runs: 16 kept"]
    [told] = run("--replay")
    assert told.endswith("replayed: unchanged")
    # An essay that a model wrote, and one that is a copy of its draft.
    essays = [path.parent for path in (tmp_path / "docs" / "essay").glob("*/metadata.json")]
    for kind in (True, False):
        essay = next(each for each in essays if (each / "prompt.txt").exists() is kind)
        assert run("--replay", f"essay/{essay.name}") == [f"essay/{essay.name} replayed: unchanged"]
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 17
    assert json.loads(next((tmp_path / "docs" / "draft").glob("*/metadata.json")).read_text())["generation_model_name"]


def test_the_example_runs_on_an_object_store_with_one_setting_changed(tmp_path: Path, s3: Moto) -> None:
    url = s3.bucket()
    environment = {**os.environ, **s3.environment(), "ESSAYS_DATA_ROOT": str(tmp_path), "ESSAYS_STORE": url}
    told = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "examples.dagster_essays"],
            cwd=Path(__file__).parent.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        told += done.stdout.splitlines()[1:4]
    assert told[:3] == ["draft: 4 runs: 4 created", "essay: 8 runs: 8 created", "evaluation: 16 runs: 16 created"]
    assert told[5] == "evaluation: 16 runs: 16 kept"
    store = DocsStore(url, options=s3.options())
    assert len(list(store.ids("evaluation"))) == 16
    assert not (tmp_path / "docs").exists()
