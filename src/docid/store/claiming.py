"""Waiting for claims, without waiting in a circle."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from docid.errors import DocumentClaimed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docid.core.stages import Stages
    from docid.store.backends.base import Backend
    from docid.store.backends.claims import Claim, Holder

_LOGGED_AFTER = 30.0  # seconds of waiting


class Held(NamedTuple):
    """A document whose `make` runs in this chain of calls."""

    root: str
    stage: str
    doc_id: str


held: ContextVar[tuple[Held, ...]] = ContextVar("docid_held", default=())
"""The documents whose `make` runs in this chain of calls, the innermost last."""


class Claiming(NamedTuple):
    """The claim of one document: how to try it, and how to wait for it.

    Attributes:
        backend, stages: those of the store.
        stage, doc_id, task_id: the document.
        timeout: the longest time to wait in seconds; None waits as long as it takes.
    """

    backend: Backend
    stages: Stages
    stage: str
    doc_id: str
    task_id: str
    timeout: float | None

    @property
    def name(self) -> Held:
        """The document as it appears in `held`."""
        return Held(self.backend.root, self.stage, self.doc_id)

    def refuse_circle(self) -> None:
        """Raise `DocumentClaimed` if this chain of calls is making the document already."""
        if self.name in held.get():
            raise self.error("this very call", "make(row) must not ensure its own row")

    def take(self) -> Claim | Holder:
        """Take the claim, or return its holder. One try."""
        return self.backend.take_claim(self.stage, self.doc_id)

    def refuse_waiting(self, holder: Holder) -> None:
        """Raise `DocumentClaimed` if this chain of calls may not wait for this document.

        A call that holds a claim waits only for documents of earlier stages, so no two calls wait for each other.
        """
        order = {stage: number for number, stage in enumerate(self.stages)}
        for each in held.get():
            if each.root != self.backend.root or order[self.stage] >= order.get(each.stage, 0):
                remedy = f"the make() of {each.stage}/{each.doc_id} waits only for earlier stages; run it again"
                if not each.stage:
                    remedy = "parse() of many rows waits for no document; ensure it in make() or before the run"
                raise self.error(str(holder), remedy)

    def delays(self, holder: Holder) -> Iterator[float]:
        """Yield how long to wait before each try, in seconds.

        Raises:
            DocumentClaimed: the time is over, or this chain of calls may not wait for this document.
        """
        from logging import getLogger  # noqa: PLC0415 - only to wait; keeps `import docid` fast
        from random import uniform  # noqa: PLC0415 - as above

        self.refuse_waiting(holder)
        began = time.monotonic()
        longest = self.backend.claim_delay
        delay = longest / 50
        is_logged = False
        while True:
            waited = time.monotonic() - began
            if self.timeout is not None and waited >= self.timeout:
                raise self.error(str(holder))
            if waited >= _LOGGED_AFTER and not is_logged:
                is_logged = True
                message = "%s/%s: waiting for %s, which is making it"
                getLogger("docid").warning(message, self.stage, self.doc_id, holder)
            left = longest if self.timeout is None else max(self.timeout - waited, 0.001)
            yield min(delay * uniform(0.8, 1.2), left)  # noqa: S311 - spreads the tries of many workers
            delay = min(delay * 1.5, longest)

    def error(self, holder: str, remedy: str = "") -> DocumentClaimed:
        """Return the error that names the holder."""
        location = self.backend.location(self.stage, self.doc_id)
        facts = (self.stage, self.doc_id, location, self.task_id, holder)
        return DocumentClaimed(*facts, remedy) if remedy else DocumentClaimed(*facts)
