"""The lineage of a document: load its ancestors, and find its descendants in one pass."""

import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from attrs import field, frozen

from docid._text import escape_controls, format_count, quote
from docid.core.findings import Finding
from docid.core.ids import is_doc_id
from docid.core.stages import Stages
from docid.errors import UnreadableDocument
from docid.store.backends.base import Backend
from docid.store.scanning import report_unlisted, try_load
from docid.store.stored import StoredDocument

__all__ = ["Lineage", "Relative", "lineage"]


class Relative(NamedTuple):
    """A document in a lineage, as its record describes it.

    Attributes:
        stage, doc_id: the document.
        task_id: its task; None if unknown.
        parent_doc_id: the document it was made from; None if it has no parent, or the parent is unknown.
        problem: why docid cannot read it, for example `not in the store`; otherwise empty.
    """

    stage: str
    doc_id: str
    task_id: str | None
    parent_doc_id: str | None
    problem: str = ""

    @property
    def name(self) -> str:
        """The document as `STAGE/ID`."""
        return f"{self.stage}/{self.doc_id}"

    def __str__(self) -> str:
        task = "" if self.task_id is None else f"  {escape_controls(self.task_id)}"
        return f"{self.name}{task}{f'  ({escape_controls(self.problem)})' if self.problem else ''}"


@frozen(repr=False)
class Lineage:
    r"""A document with its ancestors and descendants, as their records name them. See `DocsStore.lineage`.

    `print` shows it as a tree and marks the document with `<`.

    Attributes:
        document: the document whose lineage this is.
        ancestors: its parent, its parent's parent, and so on; the last one may have a problem.
        descendants: the documents made from it, directly or not, sorted by stage, task id and doc id.
        findings: records that docid could not read; they may belong to more descendants.
        stages: the stages of the pipeline.

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
    _children: dict[tuple[str | None, str | None], list[Relative]] = field(init=False, eq=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        # Each ancestor has one child here: the one that leads to the document.
        for child, parent in pairwise((self.document, *self.ancestors)):
            self._children[parent.stage, parent.doc_id] = [child]
        for child in self.descendants:
            self._children.setdefault((self.stages.parent_of(child.stage), child.parent_doc_id), []).append(child)

    @property
    def root(self) -> Relative:
        """The earliest ancestor, or the document itself if it has none."""
        return self.ancestors[-1] if self.ancestors else self.document

    def children_of(self, relative: Relative) -> tuple[Relative, ...]:
        """Return the documents made from this one; for an ancestor, only the child that leads to the document."""
        return tuple(self._children.get((relative.stage, relative.doc_id), ()))

    def __repr__(self) -> str:
        ancestors = format_count(len(self.ancestors), "ancestor")
        return f"<Lineage of {self.document.name}: {ancestors}, {format_count(len(self.descendants), 'descendant')}>"

    def __str__(self) -> str:
        return "\n".join(f"{guides}{relative}{self.mark(relative)}" for guides, relative in self.lines())

    def lines(self) -> Iterator[tuple[str, Relative]]:
        """Iterate over the tree from the root down: the lines drawn before a document, and the document."""

        def walk(relative: Relative, first: str, others: str) -> Iterator[tuple[str, Relative]]:
            yield first, relative
            children = self.children_of(relative)
            for child in children:
                own, below = ("└── ", "    ") if child is children[-1] else ("├── ", "│   ")
                yield from walk(child, others + own, others + below)

        return walk(self.root, "", "")

    def mark(self, relative: Relative) -> str:
        """Return the mark of the document itself; empty for its relatives."""
        return "  <" if relative is self.document else ""

    def to_mermaid(self) -> str:
        """Return the tree as a Mermaid flowchart, with a thick border around the document."""
        everyone = (*reversed(self.ancestors), self.document, *self.descendants)
        numbers = {(each.stage, each.doc_id): f"d{number}" for number, each in enumerate(everyone)}
        labels, arrows = [], []
        for each in everyone:
            own = numbers[each.stage, each.doc_id]
            text = "\n".join(escape_controls(text) for text in (each.name, each.task_id, each.problem) if text)
            # Escape every character that could end the label or act as markup.
            label = re.sub(r"[^\w ./\n-]", lambda found: f"#{ord(found[0])};", text).replace("\n", "<br>")
            labels.append(f'    {own}["{label}"]')
            arrows += [f"    {own} --> {numbers[child.stage, child.doc_id]}" for child in self.children_of(each)]
        style = f"    style {numbers[self.document.stage, self.document.doc_id]} stroke-width:4px"
        return "\n".join(["flowchart TD", *labels, *arrows, style, ""])

    def to_dict(self) -> dict[str, Any]:
        """Return a dict for JSON: `document`, `ancestors`, `descendants`, `findings`."""
        return {
            "document": self.document._asdict(),
            "ancestors": [each._asdict() for each in self.ancestors],
            "descendants": [each._asdict() for each in self.descendants],
            "findings": [each.to_dict() for each in self.findings],
        }


def lineage(version: StoredDocument, stages: Stages, *, descendants: bool = True) -> Lineage:
    """Return the lineage of a document. See `DocsStore.lineage`."""
    backend, document = version.backend, _to_relative(version)
    ancestors: list[Relative] = []
    child = document
    while (stage := stages.parent_of(child.stage)) is not None and child.parent_doc_id is not None:
        child = _load_relative(backend, stage, child.parent_doc_id)
        ancestors.append(child)
    found = list(_find_descendants(backend, stages, document)) if descendants else []
    relatives = tuple(each for each in found if isinstance(each, Relative))
    findings = tuple(each for each in found if isinstance(each, Finding))
    return Lineage(document, tuple(ancestors), relatives, findings, stages)


def _to_relative(version: StoredDocument) -> Relative:
    return Relative(version.stage, version.doc_id, version.task_id, version.parent_doc_id)


def _load_relative(backend: Backend, stage: str, doc_id: str) -> Relative:
    if not is_doc_id(doc_id):
        return Relative(stage, quote(doc_id), None, None, "not a doc id")
    found = try_load(backend, stage, doc_id)
    if isinstance(found, Finding):
        return Relative(stage, doc_id, found.task_id, None, found.message)
    return Relative(stage, doc_id, None, None, "not in the store") if found is None else _to_relative(found)


def _find_descendants(backend: Backend, stages: Stages, document: Relative) -> Iterator[Relative | Finding]:
    """Yield descendants, parents first, in one pass over the records of each stage that may hold them."""
    known: dict[str | None, set[str]] = {document.stage: {document.doc_id}}
    for stage in stages:
        parents = known.get(stages.parent_of(stage))
        if not parents:
            continue
        children: dict[str, Relative] = {}
        try:
            for found in backend.each(partial(try_load, backend, stage), backend.ids(stage)):
                if isinstance(found, Finding):
                    # A directory without a record is not a document, so it has no parent.
                    if found.code != "uncommitted-directory":
                        yield found
                elif found is not None and found.parent_doc_id in parents:
                    # By id: a document that is being replaced may be listed twice.
                    children[found.doc_id] = _to_relative(found)
        except UnreadableDocument as error:
            yield report_unlisted(backend, stage, error)
        known[stage] = set(children)
        yield from sorted(children.values(), key=lambda each: (each.task_id or "", each.doc_id))
