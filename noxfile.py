"""The project's sessions: `nox -l` lists them; each installs what it needs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["tests", "lint", "types"]

PYPROJECT = nox.project.load_toml("pyproject.toml")


PYTHONS = ["3.11", "3.12", "3.13"]
# The lowest versions that pyproject.toml admits, of what docid needs and of its extras but Dagster.
LOWEST = [
    *("attrs==23.1.0", "orjson==3.9.0", "rich==13.7.0", "narwhals==2.0.0", "obstore==0.11.0"),
    *("hypothesis==6.100.0", "pytest==8.3.0", "pandas==2.2.0", "polars==1.20.0", "pyarrow==18.0.0"),
]
MOST_PACKAGES = 60  # in the environment of the session `tests`
# One file's tests run in one process, in their order: the code blocks of a page share their names.
PARALLEL = ("-n", "auto", "--maxprocesses", "8", "--dist", "loadfile")
CORE = (*PARALLEL, "-m", "not integration")


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of the core: what needs few packages, in parallel."""
    session.install(".", *group("tests"))
    installed = str(session.run("python", "-m", "pip", "list", "--format", "freeze", silent=True)).split()
    session.log(f"{len(installed)} packages are installed; at most {MOST_PACKAGES} are allowed")
    if len(installed) > MOST_PACKAGES:
        session.error(f"the group `tests` of pyproject.toml is too large: {' '.join(installed)}")
    session.run("pytest", *CORE, *session.posargs)


@nox.session
def integrations(session: nox.Session) -> None:
    """Run the tests of what docid works with: orchestrators, object stores, a browser, notebooks."""
    session.install(".", *group("integrations"))
    session.run("pytest", *PARALLEL, "-m", "integration", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run all tests, and fail unless they cover every branch of the installed package."""
    session.install(".", *group("integrations"), *group("coverage"))
    # All processes write their figures to one directory: some tests start processes in directories of their own.
    environment = {"COVERAGE_FILE": str(Path(session.create_tmp()).resolve() / "coverage")}
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
    """Check types: mypy over everything, pyright over the package and the typed API."""
    session.install(".", *group("types"))
    session.run("mypy")
    session.run("pyright")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel once, and use it as installed on each Python that is here: alone, and with each extra."""
    built = Path(session.create_tmp()).resolve() / "wheel"
    shutil.rmtree(built, ignore_errors=True)
    session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), ".")
    [file] = map(str, built.glob("*.whl"))
    for python in PYTHONS:
        session.notify(f"installed-{python}", [file])


@nox.session(python=PYTHONS)
def installed(session: nox.Session) -> None:
    """Use a wheel as installed: `nox -s wheel` gives it."""
    if len(session.posargs) != 1:
        session.error("which wheel? expected 'nox -s wheel', which builds it")
    [file] = session.posargs
    script = str(Path("tests/installed.py").resolve())
    session.install(file)
    session.run("python", "-I", script)
    for extra in ("cli", "frames", "objects", "testing", "dagster"):
        session.install(f"{file}[{extra}]")
        session.run("python", "-I", script, extra)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the tests of the core on the lowest versions of what docid needs."""
    session.install(".", *group("tests"), *LOWEST)
    session.run("pip", "list", "--format", "freeze", silent=False)
    session.run("pytest", *CORE, *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation's site from docs/, warnings as errors."""
    session.install(".[dagster,frames,objects,testing]", *group("docs"))
    site = str(Path(session.create_tmp()).resolve() / "html")
    # -E: what is remembered of an earlier build would not be warned about again.
    session.run("sphinx-build", "-W", "--keep-going", "-E", "-b", "html", *session.posargs, "docs", site)
    session.log(f"{site}/index.html")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job twice: the essays pipeline, on its shipped input; `-- --full` on 25,630 documents."""
    options = [option for option in session.posargs if option != "--full"]
    if "--data-root" not in options:
        options += ["--data-root", "demo-data"]
    if "--full" in session.posargs:
        data = Path(os.environ.get("DOCID_TEST_DATA") or "../shared/data/daydreaming")
        if not data.is_dir():
            session.error(f"--full needs the DayDreaming data; {data} is not there: name it in DOCID_TEST_DATA")
        real = ["--all-templates", "--raw-data", str(data / "1_raw"), "--replies", str(data / "eval_responses")]
        options = [*real, *options]
    session.install(".", *group("demo"))
    session.log("first run")
    session.run("python", "-m", "examples.essays", "--fresh", *options)
    session.log("second run")
    session.run("python", "-m", "examples.essays", *options)


@nox.session
def dagster_demo(session: nox.Session) -> None:
    """Materialise the essays pipeline in Dagster, headless: whole, then again, then replay one document."""
    session.install(".[dagster]", *group("demo"))
    environment = {"ESSAYS_DATA_ROOT": os.environ.get("ESSAYS_DATA_ROOT") or str(Path("dagster-demo-data").resolve())}
    for options in (["--fresh"], [], ["--replay"]):
        session.run("python", "-W", "ignore", "-m", "examples.dagster_essays", *options, env=environment)


@nox.session
def faults(session: nox.Session) -> None:
    """Kills, power cuts, failing calls, full disks, races, at length; what a write costs. Root, to mount disks."""
    session.install(".", *group("tests"), *group("objects"))
    session.run("pytest", "tests/faults", *session.posargs, env={"DOCID_FAULTS": "long"})
    if not session.posargs:
        session.run("python", "benchmarks/million.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what docid costs, as ratios in one run: beside floors, and beside what a user would pick instead."""
    groups = [*group("dagster"), *group("objects"), *group("peers"), *group("frames"), *group("browser")]
    session.install(".", *groups)
    session.run("python", "benchmarks/ids.py", *session.posargs)
    session.run("python", "benchmarks/importing.py", *session.posargs)
    session.run("python", "benchmarks/peers.py", *session.posargs)
    session.run("python", "benchmarks/store.py", *session.posargs)
    session.run("python", "benchmarks/audit.py", *session.posargs)
    session.run("python", "benchmarks/curate.py", *session.posargs)
    session.run("python", "-W", "ignore", "benchmarks/dagster_io.py", *session.posargs)
    session.run("python", "benchmarks/objects.py", *session.posargs)
    session.run("python", "benchmarks/frames.py", *session.posargs)
    session.run("python", "benchmarks/report.py", *session.posargs)
