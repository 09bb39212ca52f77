"""The names on a file system beside the documents: of locks, of what is being changed, of history and quarantine."""

from __future__ import annotations

import re
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING

from docid.core.record import nonce

if TYPE_CHECKING:
    from collections.abc import Iterable

HISTORY = (".docid", "history")  # below the root; then the stage, the doc id, and the entries
QUARANTINE = (".docid", "quarantine")  # below the root; then the run of repair, and the path that something had
CHANGE_NAMES = (".old-", ".lock-")  # how names begin beside a document that is being changed, or once was
_ENTRY = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{16}(\.json)?")
_TEMPORARY = re.compile(r"\.tmp-(.+)-[0-9a-f]{16}")
_STAMP = "%Y%m%dT%H%M%S.%fZ"


def lock_name(doc_id: str) -> str:
    """Return the name of the lock file of a document, in its stage directory."""
    return f".lock-{doc_id}"


def old_name(doc_id: str) -> str:
    """Return the name that a document has, in its stage directory, while a replace moves the new one in place."""
    return f".old-{doc_id}"


def temporary_name(name: str) -> str:
    """Return a name that no other writer uses, for what is to become `name` or was it."""
    return f".tmp-{name}-{nonce()}"


def name_of_temporary(name: str) -> str | None:
    """Return what a temporary name was made for; None for another name."""
    found = _TEMPORARY.fullmatch(name)
    return found[1] if found else None


def entry_name(names: Iterable[str]) -> str:
    """Return a name for an entry beside `names`, behind all that are there even if the clock went back."""
    now = datetime.now(UTC)
    if times := [time for name in names if (time := time_of_entry(name)) is not None]:
        now = max(now, max(times) + timedelta(microseconds=1))
    return f"{now.strftime(_STAMP)}-{nonce()}"


def time_of_entry(name: str) -> datetime | None:
    """Return when an entry of history, or a run of repair, was put there; None for what is somebody else's."""
    if not _ENTRY.fullmatch(name):
        return None
    try:
        time = datetime.strptime(name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return time if time.year < MAXYEAR else None


def entries(names: Iterable[str]) -> list[str]:
    """Return those of `names` that are entries, the earliest first."""
    return sorted(name for name in names if time_of_entry(name) is not None)
