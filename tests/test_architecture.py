"""Imports run in one direction: core <- tables | store <- operations <- integrations <- command line.

Deferred imports and imports below `if TYPE_CHECKING` count too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest

import docid

PACKAGE = Path(docid.__file__).parent
# Lowest first: a module imports from its own package and from the lines above it. Packages on one line do not import
# each other.
LAYERS = [
    {"_version", "_text", "_files"},
    {"errors", "_html", "_progress"},
    {"core"},
    {"tables", "store"},
    {"operations"},
    {"integrations"},
    # The public import paths, which no other module of the package uses.
    {"", "backends", "copying", "curate", "dagster", "frames", "repair", "report", "testing"},
    {"cli"},
    {"__main__"},
]
EXCEPTION = ("core.document", "store.docs_store")  # Document.write_files, the short form of DocsStore.write
CORE = {"attrs", "orjson"}
# The libraries from extras that a module, or the modules of a package, may import.
EXTRAS = {
    "store.backends.objects.bucket": {"obstore"},
    "integrations.dagster": {"dagster"},
    "cli.register": {"dagster"},
    "cli": {"argcomplete"},
    "cli.output": {"rich"},
    "_progress": {"rich"},
    "store.ensured": {"typing_extensions"},  # for type checkers, which bring it
    "integrations.frames": {"narwhals"},
    "testing": {"hypothesis", "pytest"},
}


def find_modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = find_modules()


def read_imports(path: Path) -> set[str]:
    """Return every module that a file imports: at the top, in functions, and for type checkers."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = str(node.module).partition("docid.")[2]
            prefix = f"{inner}." if inner else ""
            submodules = {alias.name for alias in node.names if f"{prefix}{alias.name}" in MODULES}
            names |= {f"{node.module}.{name}" for name in submodules}
            if len(submodules) < len(node.names):
                names.add(str(node.module))
    return names


def list_imports() -> Iterator[tuple[str, str]]:
    """Return the imports within the package, as pairs (importing module, imported module)."""
    for name, path in MODULES.items():
        for imported in read_imports(path):
            top, _, inner = imported.partition(".")
            if top == "docid":
                yield name, inner


def find_layer(module: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if module.split(".", maxsplit=1)[0] in layer)


def test_imports_run_downward() -> None:
    upward = []
    for name, imported in list_imports():
        same_package = name.split(".")[0] == imported.split(".")[0] != ""
        if not same_package and find_layer(imported) >= find_layer(name) and (name, imported) != EXCEPTION:
            upward.append(f"{name} imports {imported}")
    print(f"{len(MODULES)} modules, {sum(1 for _ in list_imports())} imports, {len(upward)} upward")  # noqa: T201 - for a reader
    assert upward == []


def test_imports_have_no_cycles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for name, imported in list_imports():
        if (name, imported) != EXCEPTION:
            graph[name].add(imported)
    in_order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    print(f"0 cycles in {len(in_order)} modules")  # noqa: T201 - for a reader


def test_exception_to_import_order_is_still_needed() -> None:
    assert EXCEPTION in set(list_imports())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module_imports_only_stdlib_core_and_its_extra(name: str) -> None:
    extra = {each for prefix, needed in EXTRAS.items() if f"{name}.".startswith(f"{prefix}.") for each in needed}
    tops = {imported.partition(".")[0] for imported in read_imports(MODULES[name])}
    assert tops <= sys.stdlib_module_names | CORE | extra | {"docid"}


def test_only_cli_and_progress_print() -> None:
    for name, path in MODULES.items():
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call)
        }
        assert "print" not in calls or name.split(".")[0] in {"cli", "_progress"}, name


def test_distribution_requires_only_attrs_and_orjson() -> None:
    needed = [text for text in metadata.requires("docid-store") or [] if "extra ==" not in text]
    assert sorted(text.split(">")[0] for text in needed) == ["attrs", "orjson"]


def test_import_loads_no_heavy_module() -> None:
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
    assert (
        loaded & (heavy | {"docid.cli", "dagster", "obstore", "narwhals", "rich", "hypothesis", "typing_extensions"})
        == set()
    )


def test_dir_lists_lazy_names() -> None:
    code = "import sys, docid; print(set(docid.__all__) <= set(dir(docid)), 'docid.tables' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
    with pytest.raises(AttributeError, match="module 'docid' has no attribute 'nothing'"):
        _ = docid.nothing  # type: ignore[attr-defined]


def test_public_names_exist_with_examples() -> None:
    assert docid.__all__ == sorted(docid.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in docid.__all__:
        value = getattr(docid, name)
        if callable(value) and name != "DocId":
            assert ">>> " in value.__doc__, name
    errors = {
        name
        for name, value in vars(docid.errors).items()
        if isinstance(value, type) and issubclass(value, docid.DocidError) and not name.startswith("_")
    }
    assert errors <= set(docid.__all__)
