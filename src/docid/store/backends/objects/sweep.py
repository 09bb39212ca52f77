"""Repair and purge of an object store."""

# ruff: noqa: D102 - the docstrings are those of `Sweeper`
from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from docid.core.findings import Finding
from docid.errors import StoreUnavailable
from docid.store.backends.base import Sweeper
from docid.store.backends.names import HISTORY, QUARANTINE
from docid.store.backends.objects.format import document_key, is_tombstone, make_tombstone, unpack
from docid.store.backends.objects.quarantine import ObjectsQuarantine, get_age

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from docid.store.backends.leases import Leases
    from docid.store.backends.objects.bucket import Bucket, Object


class ObjectsSweeper(Sweeper):
    """The sweeper of `ObjectsBackend`. Writers leave no files, so it has no leftovers, only damaged documents."""

    def __init__(self, bucket: Bucket, leases: Leases) -> None:
        self._bucket = bucket
        self._quarantine = ObjectsQuarantine(bucket)
        self._leases = leases

    def strays(
        self,
        stage: str,
        doc_id: str,
        expected: bytes | None,
        listed: Collection[str],
        stale_after: float,
    ) -> list[Finding]:
        """See `Sweeper.strays`. These are texts that the record does not list, and tombstones of dead processes."""
        key = document_key(stage, doc_id)
        where = self._bucket.locate(key)
        try:
            found = self._bucket.get(key)
            if found is not None and is_tombstone(found.data):
                what = "an interrupted removal whose process died"
                is_old = self._quarantine.is_dead(key, stale_after)
                return [Finding("stale-temporary", stage, doc_id, None, where, what, "", "settle")] if is_old else []
            record, texts = (None, {}) if found is None else unpack(found.data)
        except (ValueError, StoreUnavailable, FileNotFoundError):
            return []
        if record is None or record != expected:
            return []
        return [
            Finding("unlisted-file", stage, doc_id, None, where, f"the record does not list the text {name!r}", "")
            for name in sorted(texts.keys() - set(listed))
        ]

    def is_stale(self, stage: str, doc_id: str, stale_after: float) -> bool:
        """See `Sweeper.is_stale`. The time is from the service."""
        try:
            meta = self._bucket.head(document_key(stage, doc_id))
        except FileNotFoundError:
            return True
        return get_age(meta) >= stale_after

    def clear(self, finding: Finding, entry: str, stale_after: float) -> str | None:
        """See `Sweeper.clear`."""
        bucket, stage, doc_id = self._bucket, finding.stage, finding.doc_id
        key = document_key(stage, doc_id)
        found = bucket.get(key)
        if found is None:
            return None
        if is_tombstone(found.data):
            return self._clear_tombstone(finding, found, entry, stale_after)
        record = None
        with contextlib.suppress(ValueError):
            record, _ = unpack(found.data)
        if finding.expected not in {None, record}:
            return None
        if not self.is_stale(stage, doc_id, stale_after):
            return None
        return self._quarantine.put(stage, doc_id, found, entry)

    def _clear_tombstone(self, finding: Finding, found: Object, entry: str, stale_after: float) -> str | None:
        """Delete the tombstone of a removal whose process died, after what it has left of the history."""
        key = document_key(finding.stage, finding.doc_id)
        # The process may be alive, between its tombstone and its deletion: give it time.
        if not self._quarantine.is_dead(key, stale_after):
            return None
        # Replace it first: another repair may have deleted it, and a writer may have used the id since.
        if not self._bucket.swap(key, make_tombstone(), found.version, found.data)[0]:
            return None
        self._quarantine.put_history(finding.stage, finding.doc_id, entry)
        self._bucket.delete(key)
        return ""

    def list_discarded(self, older_than: float, *, history: Collection[str]) -> Iterator[tuple[str, int]]:
        """See `Sweeper.list_discarded`. The time is from the service."""
        for names in (QUARANTINE, *((*HISTORY, stage) for stage in history)):
            listed = self._bucket.entries_below("/".join(names) + "/")
            yield from ((path, meta["size"]) for path, meta in listed if get_age(meta) >= older_than)

    def discard(self, path: str) -> None:
        self._bucket.delete(path)

    def tidy(self, stage: str, stale_after: float) -> int:
        return self._leases.clear(stage, stale_after)
