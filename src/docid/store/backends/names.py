"""Names of files that are not documents: locks, temporary directories, history and quarantine."""

from __future__ import annotations

import re
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING

from docid.core.record import nonce

if TYPE_CHECKING:
    from collections.abc import Iterable

INTERNAL = ".docid"  # below the root; no stage has this name
HISTORY = (INTERNAL, "history")  # below the root; followed by the stage, the doc id and the entry
QUARANTINE = (INTERNAL, "quarantine")  # below the root; followed by the entry and the original path
RESCUED = (INTERNAL, "rescued")  # below the root; followed by the stage and the file
CHANGE_NAMES = (".old-", ".new-", ".lock-")  # prefixes of names that a change of a document makes
_JUNK = frozenset({".ds_store", "@eadir", "thumbs.db", "desktop.ini"})
_ENTRY = re.compile(r"[0-9]{8}[Tt][0-9]{6}\.[0-9]{6}[Zz]-[0-9a-f]{16}(\.json)?")
_RESCUE_FILE = re.compile(r"(.+)-[0-9]{8}t[0-9]{6}\.[0-9]{6}z-[0-9a-f]{16}\.json")
_TEMPORARY = re.compile(r"\.tmp-(.+)-[0-9a-f]{16}")
# Lower case, since some file systems and tools fold case. Earlier stores have names with T and Z.
_STAMP = "%Y%m%dt%H%M%S.%fz"


def lock_name(doc_id: str) -> str:
    """Return the name of the lock file of a document, in its stage directory."""
    return f".lock-{doc_id}"


def claim_name(doc_id: str) -> str:
    """Return the name of the claim of a document, in its stage directory."""
    return f".claim-{doc_id}"


def old_name(doc_id: str) -> str:
    """Return the interim name of an old version, in its stage directory, while a replace moves the new one in."""
    return f".old-{doc_id}"


def new_name(doc_id: str) -> str:
    """Return the interim name of the new version in its stage directory, until a replace renames it to the id."""
    return f".new-{doc_id}"


def interim_name(file: str) -> str:
    """Return the temporary name of an internal file, which only the holder of its lock uses."""
    return f".tmp-{file}"


def temporary_name(name: str) -> str:
    """Return a unique temporary name for a file or directory."""
    return f".tmp-{name}-{nonce()}"


def parse_temporary_name(name: str) -> str | None:
    """Return the name that a temporary name was made for; None if it is not a temporary name."""
    found = _TEMPORARY.fullmatch(name)
    return found[1] if found else None


def parse_rescue_name(name: str) -> str | None:
    """Return the doc id in the name of a rescue file; None if it is not one."""
    found = _RESCUE_FILE.fullmatch(name)
    return found[1] if found else None


def is_junk(name: str) -> bool:
    """Return whether a file manager or a NAS made a file or directory of this name, for its own use."""
    return name.lower() in _JUNK or name.startswith("._")


def entry_name(names: Iterable[str]) -> str:
    """Return a name for a new entry that sorts after all entries in `names`, even if the clock was set back."""
    now = datetime.now(UTC)
    if times := [time for name in names if (time := parse_entry_time(name)) is not None]:
        now = max(now, max(times) + timedelta(microseconds=1))
    return f"{now.strftime(_STAMP)}-{nonce()}"


def parse_entry_time(name: str) -> datetime | None:
    """Return when an entry of history, or of quarantine, was made; None if the name is not docid's."""
    if not _ENTRY.fullmatch(name):
        return None
    try:
        time = datetime.strptime(name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return time if time.year < MAXYEAR else None


def entries(names: Iterable[str]) -> list[str]:
    """Return the entries among `names`, the earliest first."""
    return sorted((name for name in names if parse_entry_time(name) is not None), key=str.lower)
