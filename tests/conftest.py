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
from tests.servers import Moto, moto

# The same examples in every run of CI; DOCID_HYPOTHESIS=search looks for new ones.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("DOCID_HYPOTHESIS", "ci"))

# What a user has set for a store of their own is nothing to the tests.
for name in ("DOCID_STORE", "DOCID_STAGES", "DAGSTER_HOME"):
    os.environ.pop(name, None)
# The servers of the tests are on loopback, where no proxy leads.
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def daydreaming() -> Path:
    """The data of a real project, where it lies beside this one; not part of it."""
    path = Path(os.environ.get("DOCID_TEST_DATA") or ROOT.parent / "shared" / "data" / "daydreaming")
    if not path.is_dir():
        pytest.skip("the DayDreaming data is not here; DOCID_TEST_DATA names its directory")
    return path


@pytest.fixture(scope="session")
def s3() -> Iterator[Moto]:
    """A server that speaks S3, on loopback."""
    with moto() as server:
        yield server


@pytest.fixture(params=["local", "memory", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> DocsStore:
    """An empty store with the default stages, in each home."""
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
    """The rows of a small pipeline. See `tests.auditing`."""
    return make_rows()


@pytest.fixture
def full(local: DocsStore, rows: Rows) -> DocsStore:
    """A store in a directory, with the document of every row."""
    write_all(local, rows)
    return local


@pytest.fixture
def tables(tmp_path: Path, rows: Rows) -> Path:
    """A directory with the tables of these rows, and a file that is none."""
    directory = tmp_path / "2_tasks"
    directory.mkdir()
    write_tasks(directory / "draft_generation_tasks.csv", rows["draft"])
    write_tasks(directory / "essay_generation_tasks.csv.gz", rows["essay"])
    write_tasks(directory / "evaluation_tasks.csv", rows["evaluation"])
    (directory / "models.csv").write_text("id\n")
    return directory
