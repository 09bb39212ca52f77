"""Repair and purge of an object store."""

# ruff: noqa: D102 - the docstrings are those of `Sweeper`
from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, cast

from docid.core.findings import Finding
from docid.core.record import nonce
from docid.errors import StoreUnavailable
from docid.store.backends.base import Sweeper
from docid.store.backends.names import HISTORY, QUARANTINE
from docid.store.backends.objects.bucket import VERSION_GONE
from docid.store.backends.objects.format import document_key, unpack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from docid.store.backends.leases import Leases
    from docid.store.backends.objects.bucket import Bucket

_TOMBSTONE = b"docid_quarantined"
_TOMBSTONE_AGE = 300.0  # seconds


class ObjectsSweeper(Sweeper):
    """The sweeper of `ObjectsBackend`. Writers leave no files, so it has no leftovers, only damaged documents."""

    def __init__(self, bucket: Bucket, leases: Leases) -> None:
        self._bucket = bucket
        self._leases = leases

    def strays(
        self,
        stage: str,
        doc_id: str,
        expected: bytes | None,
        listed: Collection[str],
        stale_after: float,  # noqa: ARG002 - a put is atomic
    ) -> list[Finding]:
        """See `Sweeper.strays`. These are texts that the record does not list."""
        key = document_key(stage, doc_id)
        try:
            found = self._bucket.get(key)
            record, texts = (None, {}) if found is None else unpack(found.data)
        except (ValueError, StoreUnavailable):
            return []
        if record is None or record != expected:
            return []
        where = self._bucket.locate(key)
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
        return _age(meta) >= stale_after

    def clear(self, finding: Finding, run: str, stale_after: float) -> str | None:
        """See `Sweeper.clear`. An object store cannot move: copy to quarantine, then delete."""
        bucket, stage, doc_id = self._bucket, finding.stage, finding.doc_id
        key = document_key(stage, doc_id)
        found = bucket.get(key)
        if found is None:
            return None
        record = None
        with contextlib.suppress(ValueError):
            record, _ = unpack(found.data)
        if finding.expected not in {None, record}:
            return None
        # Another repair may be between its tombstone and its deletion: give it time.
        if not self.is_stale(stage, doc_id, max(stale_after, _TOMBSTONE_AGE if _TOMBSTONE in found.data else 0)):
            return None
        to = "/".join((*QUARANTINE, run, key))
        bucket.put(to, found.data, "overwrite")
        # A delete cannot be conditional, but a put can. So first replace exactly this version by a tombstone, which
        # keeps the id taken until the delete.
        try:
            bucket.put(key, b'{"%b": "%b"}\n' % (_TOMBSTONE, nonce().encode()), found.version)
        except VERSION_GONE:
            bucket.delete(to)
            return None
        bucket.delete(key)
        return to

    def list_discarded(self, older_than: float, *, history: Collection[str]) -> Iterator[tuple[str, int]]:
        """See `Sweeper.list_discarded`. The time is from the service."""
        for names in (QUARANTINE, *((*HISTORY, stage) for stage in history)):
            listed = self._bucket.entries_below("/".join(names) + "/")
            yield from ((path, meta["size"]) for path, meta in listed if _age(meta) >= older_than)

    def discard(self, path: str) -> None:
        self._bucket.delete(path)

    def tidy(self, stage: str, stale_after: float) -> int:
        return self._leases.clear(stage, stale_after)


def _age(meta: Mapping[str, Any]) -> float:
    return time.time() - cast("float", meta["last_modified"].timestamp())
