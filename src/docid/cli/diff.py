"""`docid diff`: compare two documents, or the versions of one.

Print the changes from document A to document B: first those of the record, then those of each text. docid changes
nothing. Exit code 0 whether they differ or not, and 2 if a document is damaged.

Examples:
    # Compare two drafts, in two columns
    docid diff draft/k3x0 draft/p9d2 --store data/docs --side-by-side
    # Show how the parsed text of an essay changed each time it was replaced
    docid diff essay/uu5r --history --parsed --store data/docs
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from shutil import get_terminal_size
from typing import Any

from attrs import frozen

from docid._text import format_count, name_task
from docid.cli.arguments import STORE, Arguments, UsageError, argument, expect_number, one_of
from docid.cli.inputs import find_document, open_store
from docid.cli.output import Output, Styled, print_stderr
from docid.cli.text_diff import Row, compare_texts, cut_hunks, draw_columns, draw_unified, format_unified, join_columns
from docid.core.document import PART_FILES, Document, timestamp
from docid.core.metadata import cut_deep_values
from docid.store.docs_store import DocsStore
from docid.store.stored import StoredDocument

_RECORD = "record"
_GROUPS = ("task_id", "parent_doc_id", "run_id", "created_at", "docid", "metadata")  # the order of the record's lines
_LEFT_OUT = {
    "nonce",
    "given",
    "metadata",
    "id_from",
    "parent",
    "inputs",
}  # of `docid`: hashes, and keys listed elsewhere
_COLUMNS = 130  # the width of both columns in a pipe, as in `diff -y`
_Facts = dict[tuple[str, ...], Any]


@frozen
class _Version:
    """One side of a comparison: a stored document, or with `ago` a version of it (0 is the current one)."""

    document: Document
    facts: _Facts
    ago: int | None = None

    @classmethod
    def from_stored(cls, stored: StoredDocument) -> "_Version":
        document = stored.read()
        own = {} if stored.legacy else stored.record["docid"]
        return cls(document, _list_facts(document, own))

    @property
    def name(self) -> str:
        name = f"{self.document.stage}/{self.document.doc_id}"
        if self.ago is None:
            return name
        return f"{name} ({format_count(self.ago, 'version')} ago)" if self.ago else f"{name} (current)"

    def describe(self, part: str) -> str:
        """Return the title of a part."""
        if part == _RECORD:
            return f"{self.name} {part}"
        text = self.document.parts().get(part)
        return f"{self.name} {part}: {'none' if text is None else format_count(len(text.encode()), 'byte')}"

    def to_dict(self) -> dict[str, Any]:
        made = self.document.created_at
        return {
            "stage": self.document.stage,
            "doc_id": self.document.doc_id,
            "created_at": None if made is None else timestamp(made),
            **({} if self.ago is None else {"versions_ago": self.ago}),
        }


def run(arguments: Arguments, out: Output) -> int:
    """Print the differences between two documents, or between the versions of one."""
    out.ends_with_pipe = True
    if (arguments.b is not None) == arguments.history:
        raise UsageError("expected either a second document B or --history; see docid diff --help")
    store = open_store(arguments)
    document = store.open(*find_document(store, arguments.a))
    if arguments.history:
        _compare_versions(arguments, out, store, document)
        return 0
    other = store.open(*find_document(store, arguments.b))
    _compare(arguments, out, _Version.from_stored(document), _Version.from_stored(other))
    return 0


def _compare_versions(arguments: Arguments, out: Output, store: DocsStore, document: StoredDocument) -> None:
    """Print the differences between each version of a document and the one before it."""
    ago = 0
    versions = chain([document.read()], store.history(document.stage, document.doc_id))
    for ago, (later, earlier) in enumerate(pairwise(versions), 1):
        left, right = _Version(earlier, _list_facts(earlier), ago), _Version(later, _list_facts(later), ago - 1)
        if not arguments.json:
            if ago > 1:
                out.print()
            out.print_heading(f"{left.name} -> {right.name}")
        _compare(arguments, out, left, right)
    if not ago and not arguments.json:
        print_stderr(f"{document.stage}/{document.doc_id}{name_task(document.task_id)} has no earlier versions")


def _compare(arguments: Arguments, out: Output, left: _Version, right: _Version) -> None:
    """Print the differences between two versions."""
    parts = (_RECORD, *PART_FILES) if arguments.part is None else (arguments.part,)
    found = {part: outcome for part in parts if (outcome := _find_outcome(part, left, right))}
    if arguments.json:
        out.print_json(_list_differences(found, left, right, arguments.context))
    elif not found:
        out.print(f"{left.name} and {right.name} have no {arguments.part} text")
    elif set(found.values()) == {"equal"}:
        out.print(f"{left.name} and {right.name} are equal: {', '.join(found)}")
    else:
        for part, outcome in found.items():
            if outcome == "equal":
                out.print(f"{part}: equal")
            else:
                out.print_styled(_draw(arguments, out, part, left, right))


def _find_outcome(part: str, left: _Version, right: _Version) -> str:
    """Return whether a part is `equal`, `added`, `removed` or `changed`; an empty text if neither version has it."""
    if part == _RECORD:
        return "changed" if _find_changed_keys(left, right) else "equal"
    before, after = (each.document.parts().get(part) for each in (left, right))
    if before == after:
        return "" if before is None else "equal"
    return "added" if before is None else "removed" if after is None else "changed"


def _list_differences(found: Mapping[str, str], left: _Version, right: _Version, context: int) -> dict[str, Any]:
    """Return the differences between two versions for JSON."""
    facts: dict[str, Any] = {"a": left.to_dict(), "b": right.to_dict()}
    if _RECORD in found:
        facts["record"] = {
            _format_key(key): {side: each.facts[key] for side, each in (("a", left), ("b", right)) if key in each.facts}
            for key in _find_changed_keys(left, right)
        }
    texts: dict[str, dict[str, str]] = {part: {"outcome": found[part]} for part in PART_FILES if part in found}
    for part, text in texts.items():
        if text["outcome"] != "equal":
            text["diff"] = "".join(f"{line}\n" for line in _format_diff(part, left, right, context))
    return {**facts, "parts": texts}


def _format_diff(part: str, left: _Version, right: _Version, context: int) -> Iterator[str]:
    """Yield the lines of a unified diff, unescaped."""
    yield from (f"--- {left.describe(part)}", f"+++ {right.describe(part)}")
    for header, rows in cut_hunks(_compare_part(part, left, right), context):
        yield header
        yield from (f"{mark}{line}" for mark, line in format_unified(rows))


def _draw(arguments: Arguments, out: Output, part: str, left: _Version, right: _Version) -> Iterator[Styled]:
    """Yield the lines of a part that differs, for the screen."""
    columns = get_terminal_size((_COLUMNS, 24)).columns
    before, after = left.describe(part), right.describe(part)
    if arguments.side_by_side:
        yield from join_columns([(before, "bold")], "|", [(after, "bold")], columns)
    else:
        yield from ([(f"--- {before}", "bold")], [(f"+++ {after}", "bold")])
    width = columns if out.has_styles() else None
    for header, rows in cut_hunks(_compare_part(part, left, right), arguments.context):
        yield [(header, "cyan")]
        yield from draw_columns(rows, columns) if arguments.side_by_side else draw_unified(rows, width)


def _compare_part(part: str, left: _Version, right: _Version) -> list[Row]:
    if part != _RECORD:
        return compare_texts(left.document.parts().get(part), right.document.parts().get(part))
    rows = []
    for key in _sort_keys(left, right):
        before, after = (
            f"{_format_key(key)}: {_format_value(each.facts[key])}" if key in each.facts else None
            for each in (left, right)
        )
        rows.append(Row(before, after, "=" if before == after else "|" if None in {before, after} else "~"))
    return rows


def _sort_keys(left: _Version, right: _Version) -> list[tuple[str, ...]]:
    return sorted({*left.facts, *right.facts}, key=lambda key: (_GROUPS.index(key[0]), key))


def _find_changed_keys(left: _Version, right: _Version) -> list[tuple[str, ...]]:
    """Return the keys of the records that only one version has, or that have another value."""
    texts = [{key: _format_value(value) for key, value in each.facts.items()} for each in (left, right)]
    return [key for key in _sort_keys(left, right) if texts[0].get(key) != texts[1].get(key)]


def _list_facts(document: Document, own: Mapping[str, Any] | None = None) -> _Facts:
    """Return the values of a record by their keys, without those that differ between any two documents.

    Args:
        document: the document; its record may be that of an older system.
        own: `docid` of the record, which also has the keys that a `Document` lacks.
    """
    keys = document.own_keys()
    origin = zip(("run_id", "salt"), document.id_from or (), strict=False)
    added = {
        "id_from": {key: value for key, value in origin if value is not None},
        "parent": document.pins.get(document.parent_doc_id or ""),
        "inputs": {name: document.pins.get(name) for name in document.inputs},
    }
    others = {key: value for key, value in (own or {}).items() if key not in _LEFT_OUT}
    tree = {
        **{key: keys[key] for key in _GROUPS if key in keys},
        "docid": {**cut_deep_values(others), **{key: value for key, value in added.items() if value}},
        "metadata": cut_deep_values(document.metadata),
    }
    return dict(item for key, value in tree.items() if value != {} for item in _flatten((key,), value))


def _flatten(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values of nested objects, each with the path of its keys."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flatten((*path, key), each)
    else:
        yield path, value


def _format_key(path: tuple[str, ...]) -> str:
    """Return the path of a key, with dots between its names. A name of the caller's with odd characters is quoted."""
    plain = r"[\w/.-]+" if path[0] == "docid" else r"[\w/:-]+"
    return ".".join(name if re.fullmatch(plain, name) else json.dumps(name, ensure_ascii=False) for name in path)


def _format_value(value: Any) -> str:
    """Return a value on one line: text as it is, unless it looks like another value of JSON."""
    is_plain = isinstance(value, str) and not re.fullmatch(
        r"(?s)|[\s\"\[{].*|.*\s|.*\n.*|null|true|false|NaN|-?Infinity|-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", value
    )
    return value if is_plain else json.dumps(value, ensure_ascii=False)


ARGUMENTS = (
    argument("a A", "document: [STAGE/]ID, or a unique prefix of the id; without STAGE, docid searches all stages"),
    argument("b B", "the document to compare with A, given in the same way", nargs="?"),
    argument("--history", "compare each version of A with the one before it instead, the latest first"),
    one_of(
        argument("--record", "compare only the records", action="store_const", const=_RECORD, dest="part"),
        *(
            argument(f"--{part}", f"compare only the {part} texts", action="store_const", const=part, dest="part")
            for part in PART_FILES
        ),
    ),
    argument(
        "--context N",
        "print N unchanged lines around each change (default: 3)",
        type=expect_number("lines", minimum=0),
        default=3,
    ),
    one_of(
        argument("--side-by-side", "print two columns instead of a unified diff"),
        argument("--json", "print one line of JSON per comparison, with the diff of each text"),
    ),
    *STORE,
)
