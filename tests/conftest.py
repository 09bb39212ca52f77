from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from docid import DocsStore, write_tasks
from docid.backends import LocalBackend, MemoryBackend
from docid.backends.objects import ObjectsBackend
from tests.auditing import Rows, make_rows, write_all
from tests.model_server import ModelServer, run_model
from tests.servers import Moto, moto

# CI tries the same examples in every run; DOCID_HYPOTHESIS=search tries new ones.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("DOCID_HYPOTHESIS", "ci"))

# The tests ignore the user's own settings.
for name in ("DOCID_STORE", "DOCID_STAGES", "DAGSTER_HOME"):
    os.environ.pop(name, None)
# The test servers listen on loopback, which no proxy reaches.
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def daydreaming() -> Path:
    """The data of a real project, which docid does not ship."""
    path = Path(os.environ.get("DOCID_TEST_DATA") or ROOT.parent / "shared" / "data" / "daydreaming")
    if not path.is_dir():
        pytest.skip("the DayDreaming data is not here; DOCID_TEST_DATA names its directory")
    return path


@pytest.fixture(scope="session")
def s3() -> Iterator[Moto]:
    """An S3 server on loopback."""
    with moto() as server:
        yield server


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """An OpenAI-compatible server on loopback."""
    with run_model() as server:
        yield server


@pytest.fixture(params=["local", "memory", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> DocsStore:
    """An empty store with the default stages, once per backend."""
    if request.param == "memory":
        return DocsStore(MemoryBackend())
    if request.param == "objects":
        return DocsStore(ObjectsBackend("memory://"))
    return DocsStore(LocalBackend(tmp_path / "docs", durability="none"))


@pytest.fixture
def local(tmp_path: Path) -> DocsStore:
    return DocsStore(tmp_path / "docs", durability="none")


@pytest.fixture
def rows() -> Rows:
    """The rows of the pipeline in `tests.auditing`."""
    return make_rows()


@pytest.fixture
def full(local: DocsStore, rows: Rows) -> DocsStore:
    """A local store with the document of every row."""
    write_all(local, rows)
    return local


@pytest.fixture
def tables(tmp_path: Path, rows: Rows) -> Path:
    """A directory with the tables of `rows`, and a file that is not a task table."""
    directory = tmp_path / "2_tasks"
    directory.mkdir()
    write_tasks(directory / "draft_generation_tasks.csv", rows["draft"])
    write_tasks(directory / "essay_generation_tasks.csv.gz", rows["essay"])
    write_tasks(directory / "evaluation_tasks.csv", rows["evaluation"])
    (directory / "models.csv").write_text("id\n")
    return directory
