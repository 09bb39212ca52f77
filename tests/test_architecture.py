"""The order of the modules, read off the imports: every module imports only from what stands left of it."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import docid

PACKAGE = Path(docid.__file__).parent
ORDER = [
    "errors",
    "findings",
    "ids",
    "stages",
    "document",
    "rows",
    "atomicfile",
    "csvfile",
    "tasks",
    "indexed",
    "backends.base",
    "backends.names",
    "backends.directory",
    "backends.locks",
    "backends.sweep",
    "backends.local",
    "backends.memory",
    "backends.objectformat",
    "backends.bucket",
    "backends.objectsweep",
    "backends.objects",
    "backends",
    "stored",
    "outcomes",
    "scanning",
    "lineage",
    "store",
    "shards.job",
    "shards.documents",
    "shards.rows",
    "shards.parents",
    "shards",
    "audit",
    "repair",
    "copying",
    "",
    "curate.notes",
    "curate.building",
    "curate.linking",
    "curate.scoring",
    "curate.selecting",
    "curate.replaying",
    "curate.migration",
    "curate.following",
    "curate",
    "frames",
    "report.markup",
    "report.views",
    "report.charts",
    "report.gathering",
    "report.rendering",
    "report",
    "dagster.partitions",
    "dagster.steps",
    "dagster.resource",
    "dagster.manager",
    "dagster.tables",
    "dagster.checks",
    "dagster.replaying",
    "dagster",
    "testing",
    "cli.options",
    "cli.output",
    "cli.terminal",
    "cli.audit",
    "cli.copy",
    "cli.curate",
    "cli.lineage",
    "cli.register",
    "cli.migrate",
    "cli.repair",
    "cli.report",
    "cli.reserve",
    "cli.show",
    "cli",
    "__main__",
]
# Imports that go against the arrow, inside of functions. There are no others.
DEFERRED = {
    ("document", "store"),
    *((shown, "report.views") for shown in ("document", "stored", "outcomes", "store", "audit")),
}
CORE = {"attrs", "orjson"}
# What a module needs that comes with an extra of its name.
EXTRAS = {
    "backends.bucket": {"obstore"},
    "dagster": {"dagster"},
    "cli.register": {"dagster"},
    "cli.terminal": {"rich"},
    "frames": {"narwhals"},
    "testing": {"hypothesis", "pytest"},
}


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports_of(path: Path) -> set[str]:
    """Return what a module imports when it runs: what stands below `if TYPE_CHECKING` does not count."""
    tree = ast.parse(path.read_text("utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = str(node.module).partition("docid.")[2]
            of_package = {alias.name for alias in node.names if f"{inner}.{alias.name}" in modules()}
            names |= {f"{node.module}.{name}" for name in of_package}
            if len(of_package) < len(node.names):
                names.add(str(node.module))
    return names


def test_every_module_has_its_place() -> None:
    assert set(modules()) == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_from_what_stands_left_of_it(name: str) -> None:
    for imported in imports_of(modules()[name]):
        top, _, inner = imported.partition(".")
        if top == "docid":
            if (name, inner) not in DEFERRED:
                assert ORDER.index(inner) < ORDER.index(name), f"{name} imports {imported}"
        else:
            assert top in sys.stdlib_module_names | CORE | EXTRAS.get(
                name, EXTRAS.get(name.split(".", maxsplit=1)[0], set())
            ), f"{name} imports {imported}"


def test_only_the_command_line_prints() -> None:
    for name, path in modules().items():
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call)
        }
        assert "print" not in calls or name.split(".")[0] == "cli", name


def test_the_distribution_needs_attrs_and_orjson_alone() -> None:
    needed = [text for text in metadata.requires("docid-store") or [] if "extra ==" not in text]
    assert sorted(text.split(">")[0] for text in needed) == ["attrs", "orjson"]


def test_importing_docid_loads_nothing_heavy() -> None:
    code = "import sys, docid; print(*sys.modules)"
    loaded = set(
        subprocess.run(
            [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
    )
    heavy = {
        "argparse",
        "asyncio",
        "difflib",
        "gzip",
        "logging",
        "random",
        "secrets",
        "socket",
        "subprocess",
        "tempfile",
    }
    assert loaded & (heavy | {"docid.cli", "dagster", "obstore", "narwhals", "rich", "hypothesis"}) == set()


def test_every_public_name_is_there_and_documented() -> None:
    assert docid.__all__ == sorted(docid.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in docid.__all__:
        value = getattr(docid, name)
        if callable(value) and name != "DocId":
            assert ">>> " in value.__doc__, name
    errors = {
        name
        for name, value in vars(docid.errors).items()
        if isinstance(value, type) and issubclass(value, docid.DocidError)
    }
    assert errors <= set(docid.__all__)
