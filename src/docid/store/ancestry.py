"""The lineage of a document: load its ancestors and inputs, and find its descendants in one pass."""

import re
from collections.abc import Callable, Container, Iterable, Iterator
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from attrs import field, frozen

from docid._text import escape_controls, format_count, quote
from docid.core.document import PART_FILES, timestamp
from docid.core.findings import ChangedSource, Finding
from docid.core.ids import is_doc_id
from docid.core.lineage_rules import find_changed_parts, split_name
from docid.core.stages import Stages
from docid.errors import UnreadableDocument
from docid.store.backends.base import Backend
from docid.store.scanning import report_unlisted, try_load
from docid.store.stored import StoredDocument

if TYPE_CHECKING:
    from docid.store.rescue import RescuedLineage

__all__ = ["Lineage", "Relative", "lineage"]

_CACHE_SIZE = 10_000  # records


class Relative(NamedTuple):
    """A document in a lineage, as its record describes it.

    Attributes:
        stage, doc_id: the document.
        task_id: its task; None if unknown.
        parent_doc_id: the document it was made from; None if it has no parent, or the parent is unknown.
        problem: why docid cannot read it, for example `not in the store`; otherwise empty.
        inputs: the other documents that it was made from, each as `STAGE/ID`.
        changed: those of its parent and inputs that are another version now than it was made from, as `STAGE/ID`.
    """

    stage: str
    doc_id: str
    task_id: str | None
    parent_doc_id: str | None
    problem: str = ""
    inputs: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The document as `STAGE/ID`."""
        return f"{self.stage}/{self.doc_id}"

    def __str__(self) -> str:
        task = "" if self.task_id is None else f"  {escape_controls(self.task_id)}"
        notes = [escape_controls(self.problem)] if self.problem else []
        notes += [f"made from another version of {name}" for name in self.changed]
        return f"{self.name}{task}{''.join(f'  ({note})' for note in notes)}"


@frozen(repr=False)
class Lineage:
    r"""A document with its ancestors, inputs and descendants, as their records name them. See `DocsStore.lineage`.

    `print` shows it as a tree and marks the document with `<`. The arrow `←` marks an input, and the documents that an
    input was made from.

    Attributes:
        document: the document whose lineage this is.
        ancestors: its parent, its parent's parent, and so on; the last one may have a problem.
        descendants: the documents made from it, directly or not, sorted by stage, task id and doc id.
        findings: records that docid could not read; they may belong to more descendants.
        stages: the stages of the pipeline.
        inputs: the inputs of the document and of its ancestors, and the documents that these were made from.

    Example:
        >>> from docid import DocsStore, Document
        >>> from docid.backends import MemoryBackend
        >>> store = DocsStore(MemoryBackend())
        >>> _ = store.write(Document(stage="draft", doc_id="d1", task_id="tides", raw_text="…"))
        >>> for number in (1, 2):
        ...     essay = {"doc_id": f"e{number}", "task_id": f"tides__{number}", "parent_doc_id": "d1"}
        ...     _ = store.write(Document(stage="essay", raw_text="…", **essay))
        >>> print(store.lineage("essay", "e2"))
        draft/d1  tides
        └── essay/e2  tides__2  <
        >>> print(store.lineage("draft", "d1"))
        draft/d1  tides  <
        ├── essay/e1  tides__1
        └── essay/e2  tides__2
    """

    document: Relative
    ancestors: tuple[Relative, ...]
    descendants: tuple[Relative, ...]
    findings: tuple[Finding, ...]
    stages: Stages
    inputs: tuple[Relative, ...] = ()
    _by_name: dict[str, Relative] = field(init=False, eq=False, factory=dict)
    _children: dict[str, list[Relative]] = field(init=False, eq=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        for each in (self.document, *self.ancestors, *self.inputs, *self.descendants):
            self._by_name.setdefault(each.name, each)
        # Each ancestor has one child here: the one that leads to the document.
        for child, parent in pairwise((self.document, *self.ancestors)):
            self._children[parent.name] = [child]
        below = {self.document.name, *(each.name for each in self.descendants)}
        for child in self.descendants:
            for name in dict.fromkeys((self._name_parent(child), *child.inputs)):
                if name in below:
                    self._children.setdefault(name, []).append(child)

    def _name_parent(self, relative: Relative) -> str:
        """Return the name of the parent, or an empty text."""
        known = relative.stage in self.stages
        stage, parent = self.stages.parent_of(relative.stage) if known else None, relative.parent_doc_id
        return "" if stage is None or parent is None else f"{stage}/{parent}"

    @property
    def root(self) -> Relative:
        """The earliest ancestor, or the document itself if it has none."""
        return self.ancestors[-1] if self.ancestors else self.document

    def children_of(self, relative: Relative) -> tuple[Relative, ...]:
        """Return the documents made from this one; for an ancestor, only the child that leads to the document."""
        return tuple(self._children.get(relative.name, ()))

    def __repr__(self) -> str:
        counts = [format_count(len(self.ancestors), "ancestor"), format_count(len(self.descendants), "descendant")]
        counts += [format_count(len(self.inputs), "input")] if self.inputs else []
        return f"<Lineage of {self.document.name}: {', '.join(counts)}>"

    def __str__(self) -> str:
        return "\n".join(f"{guides}{relative}{self.mark(relative)}" for guides, relative in self.lines())

    def lines(self) -> Iterator[tuple[str, Relative]]:
        """Iterate over the tree from the root down: the lines drawn before a document, and the document.

        The second time, a document has the problem `shown above`, and nothing below it.
        """
        above = {each.name for each in (self.document, *self.ancestors)}
        shown: set[str] = set()
        left = [(self.root, "", "", False)]
        while left:
            relative, guides, below, is_source = left.pop()
            if relative.name in shown:
                yield guides, relative._replace(problem="shown above", changed=())
                continue
            shown.add(relative.name)
            yield guides, relative
            sources = [self._name_parent(relative)] if is_source else []
            sources += relative.inputs if is_source or relative.name in above else ()
            found = [self._by_name[name] for name in sources if name in self._by_name]
            following = [(each, f"{below}← ", f"{below}  ", True) for each in found]
            children = [] if is_source else list(self.children_of(relative))
            for child in children:
                own, rest = ("└── ", "    ") if child is children[-1] else ("├── ", "│   ")
                following.append((child, below + own, below + rest, False))
            left += reversed(following)

    def mark(self, relative: Relative) -> str:
        """Return the mark of the document itself; empty for its relatives."""
        return "  <" if relative is self.document else ""

    def to_mermaid(self) -> str:
        """Return the tree as a Mermaid flowchart, with a thick border around the document.

        A dotted arrow leads from an input. An arrow from a document that is another version now has the text `changed`.
        """
        everyone = tuple(self._by_name.values())
        numbers = {each.name: f"d{number}" for number, each in enumerate(everyone)}
        labels, arrows = [], []
        for each in everyone:
            own = numbers[each.name]
            text = "\n".join(escape_controls(text) for text in (each.name, each.task_id, each.problem) if text)
            # Escape every character that could end the label or act as markup.
            label = re.sub(r"[^\w ./\n-]", lambda found: f"#{ord(found[0])};", text).replace("\n", "<br>")
            labels.append(f'    {own}["{label}"]')
            for name, arrow in ((self._name_parent(each), "-->"), *((name, "-.->") for name in each.inputs)):
                if name in numbers:
                    note = "|changed|" if name in each.changed else ""
                    arrows.append(f"    {numbers[name]} {arrow}{note} {own}")
        style = f"    style {numbers[self.document.name]} stroke-width:4px"
        return "\n".join(["flowchart TD", *labels, *arrows, style, ""])

    def to_dict(self) -> dict[str, Any]:
        """Return a dict for JSON: `document`, `ancestors`, `inputs`, `descendants`, `findings`."""
        return {
            "document": self.document._asdict(),
            "ancestors": [each._asdict() for each in self.ancestors],
            "inputs": [each._asdict() for each in self.inputs],
            "descendants": [each._asdict() for each in self.descendants],
            "findings": [each.to_dict() for each in self.findings],
        }


def find_changed_sources(
    document: StoredDocument, stages: Stages, load: Callable[[str, str], object]
) -> Iterator[ChangedSource]:
    """Yield the parent and inputs that are other versions now than the document was made from.

    `load` returns a `StoredDocument`, or anything else if docid cannot load it. It is called only for known versions.
    """
    for key, pin in document.pins.items():
        if pin is None:
            continue
        is_input = key != document.parent_doc_id
        parent_stage = stages.parent_of(document.stage)
        stage, doc_id = split_name(key) if is_input else (parent_stage, key)
        found = load(stage, doc_id) if stage is not None and stage in stages and is_doc_id(doc_id) else None
        if isinstance(found, StoredDocument) and (files := find_changed_parts(pin, found.pin)):
            made, changed = (
                "" if each.created_at is None else timestamp(each.created_at) for each in (document, found)
            )
            yield ChangedSource(
                document.stage,
                document.doc_id,
                document.task_id,
                "input" if is_input else "parent",
                f"{stage}/{doc_id}",
                " ".join(part for part, name in PART_FILES.items() if name in files),
                made,
                changed,
            )


def lineage(version: StoredDocument, stages: Stages, *, descendants: bool = True) -> Lineage:
    """Return the lineage of a document. See `DocsStore.lineage`."""
    search = _Search(version.backend, stages, lru_cache(_CACHE_SIZE)(partial(try_load, version.backend)))
    document = search.describe(version)
    ancestors: list[Relative] = []
    child = document
    while (stage := stages.parent_of(child.stage)) is not None and child.parent_doc_id is not None:
        child = search.load_relative(stage, child.parent_doc_id)
        ancestors.append(child)
    inputs = search.find_inputs((document, *ancestors))
    found, findings = find_descendants(version.backend, stages, [document.name]) if descendants else ({}, ())
    found.pop(document.name, None)  # of a cycle
    order = {stage: position for position, stage in enumerate(stages)}
    relatives = sorted(
        map(search.describe, found.values()), key=lambda each: (order[each.stage], each.task_id or "", each.doc_id)
    )
    return Lineage(document, tuple(ancestors), tuple(relatives), findings, stages, inputs)


class _Search(NamedTuple):
    """A search for the relatives of a document."""

    backend: Backend
    stages: Stages
    load: Callable[[str, str], object]

    def describe(self, document: StoredDocument) -> Relative:
        """Return a document as a relative."""
        names = (document.stage, document.doc_id, document.task_id, document.parent_doc_id)
        changed = find_changed_sources(document, self.stages, self.load)
        return Relative(*names, "", document.inputs, tuple(dict.fromkeys(each.source for each in changed)))

    def load_relative(self, stage: str, doc_id: str) -> Relative:
        """Load a relative; if it cannot be read, return it with its problem."""
        if not is_doc_id(doc_id):
            return Relative(stage, quote(doc_id), None, None, "not a doc id")
        found = self.load(stage, doc_id)
        if isinstance(found, Finding):
            return Relative(stage, doc_id, found.task_id, None, found.message)
        if not isinstance(found, StoredDocument):
            return Relative(stage, doc_id, None, None, "not in the store")
        return self.describe(found)

    def find_inputs(self, path: tuple[Relative, ...]) -> tuple[Relative, ...]:
        """Load the inputs of the documents of a path, and everything that these were made from."""
        found: dict[str, Relative] = {}
        left = [name for each in reversed(path) for name in reversed(each.inputs)]
        seen = {each.name for each in path}
        while left:
            name = left.pop()
            if name in seen:
                continue
            seen.add(name)
            stage, doc_id = split_name(name)
            if stage not in self.stages:
                found[name] = Relative(stage, doc_id, None, None, "not a stage of this pipeline")
                continue
            relative = found[name] = self.load_relative(stage, doc_id)
            left += reversed(relative.inputs)
            if (parent_stage := self.stages.parent_of(stage)) is not None and is_doc_id(relative.parent_doc_id or ""):
                left.append(f"{parent_stage}/{relative.parent_doc_id}")
        return tuple(found.values())


def find_descendants(
    backend: Backend,
    stages: Stages,
    names: Iterable[str],
    *,
    seen: set[str] | None = None,
    more: Iterable[StoredDocument] = (),
    progress: Callable[[str], object] | None = None,
) -> tuple[dict[str, StoredDocument], tuple[Finding, ...]]:
    """Return the documents made from others, directly or not, by name; and the records that cannot be read.

    One pass over the records of all stages, since an input may be of any stage. If an input leads back to a stage
    whose children were read before, there is a second pass. Memory holds the names of the documents with inputs; in a
    second pass, those of all documents.

    Args:
        backend, stages: those of the store.
        names: the documents, each as `STAGE/ID`. They need not exist. One that was made from another one is returned.
        seen: names of documents that need not be read. docid adds those that it reads.
        more: documents outside of the store that may be descendants, too.
        progress: a function that is called with the stage of each record that docid has read.
    """
    search = _Descendants(backend, stages, set(names))
    findings: dict[tuple[str, str], Finding] = {}
    read, skip = set[str](), set[str]() if seen is None else seen
    for each in more:
        search.add(each, held=each)
    for holds_all in (False, True):
        leads_back = False
        for stage in stages:
            for each in _read_stage(backend, stage, skip, findings):
                read.add(name := name_document(each))
                if progress is not None:
                    progress(stage)
                leads_back = search.add(each, held=name if holds_all or each.inputs else None) or leads_back
        if not leads_back:
            break
    skip |= read
    return search.found, tuple(findings.values())


class _Descendants:
    """The descendants of documents, found among documents that come in any order.

    Attributes:
        known: the names of the documents and of their descendants so far.
        found: the descendants by name.
        waiting: documents that are not descendants so far, by each of their sources: their names, or, of those that are
            not in the store, themselves.
    """

    def __init__(self, backend: Backend, stages: Stages, known: set[str]) -> None:
        self._backend = backend
        self._stages = stages
        self.known = known
        self.found: dict[str, StoredDocument] = {}
        self.waiting: dict[str, list[StoredDocument | str]] = {}

    def add(self, document: StoredDocument, *, held: StoredDocument | str | None) -> bool:
        """Add a document if it is a descendant, or else let `held` wait for it.

        Return whether a waiting document of another stage was added: the children of that one may have been dropped.
        """
        sources = name_sources(document, self._stages)
        if self.known.isdisjoint(sources):
            if held is not None:
                for source in sources:
                    self.waiting.setdefault(source, []).append(held)
            return False
        left, has_other = [document], False
        while left:
            each = left.pop()
            name = name_document(each)
            # By name: a document that is being replaced may be listed twice.
            if name not in self.found:
                self.found[name] = each
                self.known.add(name)
                has_other = has_other or each.stage != document.stage
                left += self._load(self.waiting.pop(name, ()))
        return has_other

    def _load(self, waiting: Iterable[StoredDocument | str]) -> Iterator[StoredDocument]:
        """Yield waiting documents that are descendants; not those that have gone or have other sources now."""

        def load(each: StoredDocument | str) -> StoredDocument | Finding | None:
            return try_load(self._backend, *split_name(each)) if isinstance(each, str) else each

        new = (each for each in waiting if each not in self.found)
        for found in self._backend.each(load, new):
            if isinstance(found, StoredDocument) and not self.known.isdisjoint(name_sources(found, self._stages)):
                yield found


def name_document(document: "StoredDocument | RescuedLineage") -> str:
    """Return the name of a document: `STAGE/ID`."""
    return f"{document.stage}/{document.doc_id}"


def name_sources(document: "StoredDocument | RescuedLineage", stages: Stages) -> tuple[str, ...]:
    """Return the names of the documents that a document was made from: its parent and its inputs."""
    stage = stages.parent_of(document.stage) if document.stage in stages else None
    has_parent = stage is not None and document.parent_doc_id is not None
    return (*((f"{stage}/{document.parent_doc_id}",) if has_parent else ()), *document.inputs)


def _read_stage(
    backend: Backend, stage: str, skip: Container[str], findings: dict[tuple[str, str], Finding]
) -> Iterator[StoredDocument]:
    """Yield the documents of a stage but those in `skip`; add a finding for each record that cannot be read."""
    try:
        doc_ids = (doc_id for doc_id in backend.ids(stage) if f"{stage}/{doc_id}" not in skip)
        for found in backend.each(partial(try_load, backend, stage), doc_ids):
            if isinstance(found, StoredDocument):
                yield found
            # A directory without a record is not a document, so it has no parent.
            elif found is not None and found.code != "uncommitted-directory":
                findings[found.code, found.where] = found
    except UnreadableDocument as error:
        finding = report_unlisted(backend, stage, error)
        findings[finding.code, finding.where] = finding
