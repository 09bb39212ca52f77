"""Development sessions. `nox -l` lists them; each session installs its own requirements."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["tests", "lint", "types"]

PYPROJECT = nox.project.load_toml("pyproject.toml")


PYTHONS = ["3.11", "3.12", "3.13"]
# The lowest versions that pyproject.toml allows, for docid and its extras except Dagster.
LOWEST = [
    *("attrs==23.1.0", "orjson==3.9.0", "rich==13.7.0", "narwhals==2.0.0", "obstore==0.11.0"),
    *(
        "argcomplete==3.3.0",
        "hypothesis==6.100.0",
        "pytest==8.3.0",
        "pandas==2.2.0",
        "polars==1.20.0",
        "pyarrow==18.0.0",
    ),
]
MAX_PACKAGES = 60  # in the environment of the session `tests`
# `loadfile` runs the tests of a file in order in one process, since the code blocks of a page share their names.
PARALLEL = ("-n", "auto", "--maxprocesses", "8", "--dist", "loadfile")
CORE = (*PARALLEL, "-m", "not integration")


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the core tests, which need few packages, in parallel."""
    session.install(".", *group("tests"))
    installed = str(session.run("python", "-m", "pip", "list", "--format", "freeze", silent=True)).split()
    session.log(f"{len(installed)} packages are installed; the limit is {MAX_PACKAGES}")
    if len(installed) > MAX_PACKAGES:
        session.error(f"the dependency group `tests` in pyproject.toml is too large: {' '.join(installed)}")
    session.run("pytest", *CORE, *session.posargs)


@nox.session
def integrations(session: nox.Session) -> None:
    """Run the integration tests: orchestrators, object stores, a browser, notebooks, a model client."""
    session.install(".", *group("integrations"))
    session.run("pytest", *PARALLEL, "-m", "integration", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run all tests, and fail unless they cover every branch of the installed package."""
    session.install(".", *group("integrations"), *group("coverage"))
    # Some tests start processes in other directories, so name one file for the data of all processes.
    # Tests keep the usual temporary directory: commands print paths below the working directory as relative ones.
    environment = {
        "COVERAGE_FILE": str(Path(session.create_tmp()).resolve() / "coverage"),
        "TMPDIR": tempfile.gettempdir(),
    }
    session.run("coverage", "erase", env=environment)
    session.run("coverage", "run", "-m", "pytest", *PARALLEL, *session.posargs, env=environment)
    if not session.posargs:
        session.run("coverage", "combine", "--quiet", env=environment)
        session.run("coverage", "report", env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types: mypy checks everything, pyright the package and its typed API."""
    session.install(".", *group("types"))
    session.run("mypy")
    session.run("pyright")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, then test the installed package on every available Python, without and with each extra."""
    built = Path(session.create_tmp()).resolve() / "wheel"
    shutil.rmtree(built, ignore_errors=True)
    session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), ".")
    [file] = map(str, built.glob("*.whl"))
    for python in PYTHONS:
        session.notify(f"installed-{python}", [file])


@nox.session(python=PYTHONS, name="installed")
def check_installed(session: nox.Session) -> None:
    """Test an installed wheel. Run `nox -s wheel`, which builds it and starts this session."""
    if len(session.posargs) != 1:
        session.error("expected the path of a wheel; run 'nox -s wheel', which builds one")
    [file] = session.posargs
    script = str(Path("tests/installed.py").resolve())
    session.install(file)
    session.run("python", "-I", script)
    for extra in ("cli", "frames", "objects", "testing", "dagster"):
        session.install(f"{file}[{extra}]")
        session.run("python", "-I", script, extra)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the core tests with the lowest supported versions of all requirements."""
    session.install(".", *group("tests"), *LOWEST)
    session.run("pip", "list", "--format", "freeze", silent=False)
    session.run("pytest", *CORE, *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site from docs/. Warnings are errors."""
    session.install(".[dagster,frames,objects,testing]", *group("docs"))
    site = str(Path(session.create_tmp()).resolve() / "html")
    # -E ignores the cache of an earlier build, which would hide its warnings.
    session.run("sphinx-build", "-W", "--keep-going", "-E", "-b", "html", *session.posargs, "docs", site)
    session.log(f"{site}/index.html")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the essays pipeline twice on the example's inputs; with `-- --full`, on 25,630 documents."""
    options = [option for option in session.posargs if option != "--full"]
    if "--data-root" not in options:
        options += ["--data-root", "demo-data"]
    if "--full" in session.posargs:
        data = Path(os.environ.get("DOCID_TEST_DATA") or "../shared/data/daydreaming")
        if not data.is_dir():
            session.error(f"--full needs the DayDreaming data: no directory {data}; set DOCID_TEST_DATA")
        real = ["--all-templates", "--raw-data", str(data / "1_raw"), "--replies", str(data / "eval_responses")]
        options = [*real, *options]
    session.install(".", *group("demo"))
    session.log("first run: writes every document")
    session.run("python", "-m", "examples.essays", "--fresh", *options)
    session.log("second run: finds every document, and calls no model")
    session.run("python", "-m", "examples.essays", *options)


@nox.session
def dagster_demo(session: nox.Session) -> None:
    """Run the essays pipeline in Dagster without its UI: twice, then replay one document."""
    session.install(".[dagster]", *group("demo"))
    environment = {"ESSAYS_DATA_ROOT": os.environ.get("ESSAYS_DATA_ROOT") or str(Path("dagster-demo-data").resolve())}
    for options in (["--fresh"], [], ["--replay"]):
        session.run("python", "-W", "ignore", "-m", "examples.dagster_essays", *options, env=environment)


@nox.session
def faults(session: nox.Session) -> None:
    """Run the long fault tests: kills, power cuts, full disks, races, file systems, schedules. Mounting needs root."""
    session.install(".", *group("tests"), *group("objects"))
    session.run("pytest", "tests/faults", "tests/test_schedules.py", *session.posargs, env={"DOCID_FAULTS": "long"})
    if not session.posargs:
        session.run("python", "benchmarks/million.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks: docid compared with bare system calls and with alternative libraries."""
    groups = [*group("dagster"), *group("objects"), *group("peers"), *group("frames"), *group("browser")]
    session.install(".", *groups)
    session.run("python", "benchmarks/ids.py", *session.posargs)
    session.run("python", "benchmarks/importing.py", *session.posargs)
    session.run("python", "benchmarks/peers.py", *session.posargs)
    session.run("python", "benchmarks/store.py", *session.posargs)
    session.run("python", "benchmarks/calls.py", *session.posargs)
    session.run("python", "benchmarks/pins.py", *session.posargs)
    session.run("python", "benchmarks/audit.py", *session.posargs)
    session.run("python", "benchmarks/curate.py", *session.posargs)
    session.run("python", "-W", "ignore", "benchmarks/dagster_io.py", *session.posargs)
    session.run("python", "benchmarks/objects.py", *session.posargs)
    session.run("python", "benchmarks/frames.py", *session.posargs)
    session.run("python", "benchmarks/report.py", *session.posargs)
