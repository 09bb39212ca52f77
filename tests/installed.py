"""Check the installed wheel, with and without its extras; `nox -s wheel` runs it in an environment of its own.

    python -I installed.py core | EXTRA…

It is a plain program, because no test library is installed there.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

# Per extra: the module that needs it, and the library that it installs.
EXTRAS = {
    "cli": ("docid.cli.output", "rich"),
    "dagster": ("docid.dagster", "dagster"),
    "frames": ("docid.frames", "narwhals"),
    "objects": ("docid.backends.objects", "obstore"),
    "testing": ("docid.testing", "hypothesis"),
}
CORE = {"attrs", "orjson", "docid-store"}


def check(condition: object, fact: str) -> None:
    """Print a fact; exit with an error if it is false."""
    if not condition:
        sys.exit(f"FAILED: {fact}")
    print(f"  {fact}")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command `docid` of the wheel."""
    program = Path(sysconfig.get_path("scripts"), "docid")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def check_core() -> None:
    """Check what works without any extra."""
    import docid

    check("site-packages" in docid.__file__, "docid is imported from site-packages")
    check(Path(docid.__file__).with_name("py.typed").is_file(), "its types are installed")
    found = {each.name for each in metadata.distributions()} - {"pip", "setuptools"}
    check(found == CORE, f"installed: {', '.join(sorted(found))}")
    check(metadata.version("docid-store") == docid.__version__, f"version {docid.__version__}")
    for name in docid.__all__:
        getattr(docid, name)
    check(docid.reserve_doc_id("draft", "combo-1__outline-v2__sonnet-4") == "dyqgt4ths788xgx8", "the id of a task")
    with tempfile.TemporaryDirectory() as directory:
        store = docid.DocsStore(f"{directory}/docs")
        [row] = docid.reserve_tasks([docid.DraftTask(task_id="t-1")], docid.DraftTask)
        for outcome in ("created", "kept"):
            done = store.ensure(row, lambda row: docid.Document.from_task(row, raw_text="Once.", parsed_text="7"))
            check(done.outcome == outcome, f"a document is {outcome}")
        docid.write_tasks(f"{directory}/draft_tasks.csv", [row])
        for arguments in (
            ["audit", f"{directory}/draft_tasks.csv"],
            ["show", row.doc_id],
            ["lineage", row.doc_id],
            ["scores", "--stage", "draft"],
            ["report", "-o", f"{directory}/report.html"],
            ["repair"],
        ):
            result = command(*arguments, "--store", f"{directory}/docs")
            check(result.returncode == 0, f"docid {arguments[0]}: exit {result.returncode} {result.stderr}".strip())
        html = Path(directory, "report.html").read_text("utf-8")
        check("docid-ready" in html and "color-scheme" in html, "the page has its script and style")
        check("Once." in store.read("draft", row.doc_id)._repr_html_(), "a document has an HTML view")
        json.loads(docid.audit(store).to_json())


def check_without(extra: str) -> None:
    """Check that a missing extra raises one line that says what to install."""
    module, _ = EXTRAS[extra]
    if extra == "cli":
        importlib.import_module(module)  # falls back to plain text
        return
    try:
        importlib.import_module(module)
    except ImportError as error:
        check(f"docid-store[{extra}]" in str(error) and "\n" not in str(error), f"without {extra}: {error}")
    else:
        check(False, f"{module} needs {extra}, and is imported without it")
    if extra == "objects":
        result = command("ls", "--store", "s3://bucket/docs")
        check((result.returncode, len(result.stderr.splitlines())) == (2, 1), f"docid ls: {result.stderr.strip()}")
    if extra == "dagster":
        result = command("register", "--help")
        check(result.returncode == 0, "docid register --help")


def check_with(extra: str) -> None:
    """Check that an extra is installed, and that its module imports."""
    module, library = EXTRAS[extra]
    importlib.import_module(module)
    check(metadata.version(library), f"with {extra}: {library} {metadata.version(library)}, {module}")


def main(extras: list[str]) -> None:
    print(f"Python {sys.version.split()[0]}, extras: {', '.join(extras) or 'none'}")
    if not extras:
        check_core()
    for extra in EXTRAS:
        if extra in extras:
            check_with(extra)
        elif not extras:
            check_without(extra)


if __name__ == "__main__":
    main(sys.argv[1:])
