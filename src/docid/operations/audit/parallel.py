"""Examining documents in parallel: the part of an audit that takes long, in this process or in an executor's workers.

The rest of an audit is one pass in this process, so that its report is the same with every executor.
"""

from __future__ import annotations

import contextlib
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from docid.core.document import PART_FILES
from docid.core.findings import Finding
from docid.core.record import Record
from docid.errors import UnreadableDocument
from docid.store.scanning import examine, load_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from docid.store.backends.base import Backend
    from docid.store.stored import StoredDocument

__all__ = ["Examination", "Examiner", "examine_all"]

CHUNK = 1000  # documents of one call of a worker
AHEAD = 64  # chunks under way, which bounds the memory: enough for as many workers
_PARSED_FILE, _PROMPT_FILE = PART_FILES["parsed"], PART_FILES["prompt"]
Item = TypeVar("Item")


class Examination(NamedTuple):
    """What was found of one document; small, because it crosses from a worker.

    Attributes:
        findings: what is wrong with it.
        record: what its record says of its lineage; None where no document can be used.
        has_parsed, has_prompt: whether it has these parts.
    """

    findings: list[Finding]
    record: Record | None = None
    has_parsed: bool = False
    has_prompt: bool = False


class Examiner(NamedTuple):
    """Examines documents of a backend. It pickles if the backend does."""

    backend: Backend
    verify: bool
    stale_after: float

    def examine_chunk(self, stage: str, doc_ids: Sequence[str | None], in_row: bool) -> list[Examination | None]:  # noqa: FBT001 - what executors do with keywords differs
        """Examine documents, at the same time where the backend does that; give None for None.

        What a tool may be at is no finding, unless it is `in_row`: in the way of a row.
        """

        def examine_one(doc_id: str | None) -> Examination | None:
            return None if doc_id is None else self._examine(stage, doc_id, in_row=in_row)

        return list(self.backend.each(examine_one, doc_ids))

    def _examine(self, stage: str, doc_id: str, *, in_row: bool) -> Examination:
        version = None if self.verify else load_whole(self.backend, stage, doc_id)
        if version is not None:
            return self._describe(version, [])
        found = list(examine(self.backend, stage, doc_id, verify=self.verify, stale_after=self.stale_after))
        if in_row and not found:
            with contextlib.suppress(OSError):
                try:
                    self.backend.load(stage, doc_id)
                except UnreadableDocument:
                    found = list(examine(self.backend, stage, doc_id, verify=self.verify, stale_after=0))
        findings = [each for each in found if isinstance(each, Finding)]
        versions = [each for each in found if not isinstance(each, Finding)]
        return self._describe(versions[0], findings) if versions else Examination(findings)

    def _describe(self, version: StoredDocument, findings: list[Finding]) -> Examination:
        files: Collection[str] = version.facts.files
        if version.legacy:
            with contextlib.suppress(UnreadableDocument, OSError):  # it has vanished since
                files = self.backend.sizes(version.stage, version.doc_id, (_PARSED_FILE, _PROMPT_FILE))
        record = Record({}, version.task_id, version.parent_doc_id, version.run_id, None, {}, version.legacy)
        return Examination(findings, record, _PARSED_FILE in files, _PROMPT_FILE in files)


def examine_all(
    examiner: Examiner | None,
    executor: Executor | None,
    stage: str,
    items: Iterable[Item],
    get_doc_id: Callable[[Item], str | None],
    *,
    in_row: bool,
) -> Iterator[tuple[Item, Examination | None]]:
    """Return each item with the examination of its document, as a stream in the order of the items.

    Items are taken before their turn: `CHUNK` of them, with an executor `AHEAD` times as many. Without an examiner, or
    where the doc id is None, there is no examination.
    """
    items = iter(items)
    chunks = iter(lambda: list(islice(items, CHUNK)), [])
    if examiner is None:
        yield from ((item, None) for item in items)
        return
    if executor is None:
        for chunk in chunks:
            yield from zip(chunk, examiner.examine_chunk(stage, list(map(get_doc_id, chunk)), in_row), strict=True)
        return
    pending: deque[tuple[list[Item], Future[list[Examination | None]]]] = deque()
    try:
        while True:
            for chunk in islice(chunks, AHEAD - len(pending)):
                future = executor.submit(examiner.examine_chunk, stage, list(map(get_doc_id, chunk)), in_row)
                pending.append((chunk, future))
            if not pending:
                return
            chunk, future = pending.popleft()
            yield from zip(chunk, future.result(), strict=True)
    finally:
        for _, future in pending:
            future.cancel()
