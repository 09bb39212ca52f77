"""The place of one document in its stage directory: its names there, what they hold, and its history."""

from __future__ import annotations

import contextlib
from os.path import join
from typing import TYPE_CHECKING, NamedTuple, Self

from docid.core.record import RECORD_FILE
from docid.errors import DurabilityUnknown, UnreadableDocument
from docid.store.backends.base import TURNS, Stored
from docid.store.backends.local.directory import make_below, open_below
from docid.store.backends.local.locks import is_held
from docid.store.backends.names import HISTORY, entries, entry_name, lock_name, old_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from docid.store.backends.local.directory import Directory


# So often a document is looked for whose lock file is there and free, before it counts as absent.
_LOOKS = 3


class Place(NamedTuple):
    """The place of a document. A `with` closes its directory.

    Attributes:
        directory: its stage directory, open.
        root, stage, doc_id: where that is, and the id.
        sync: whether what is done here has to survive a power cut.
    """

    directory: Directory
    root: str
    stage: str
    doc_id: str
    sync: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.directory.close()

    @property
    def old(self) -> str:
        """The interim name: that of the old version, while a replace moves the new one in place."""
        return old_name(self.doc_id)

    def read(self, name: str, parts: Collection[str] = ()) -> Stored | None:
        """Return what the directory of that name holds, read by one descriptor, so that all is of one version.

        None where there is no such directory, or an empty one, which claims nothing: a rename replaces it.

        Raises:
            NotADirectoryError: it is something else, or a symbolic link.
            UnreadableDocument: it is no document.
        """
        try:
            document = self.directory.sub(name)
        except FileNotFoundError:
            return None
        with document:
            try:
                record = document.read(RECORD_FILE)
                if record is None:
                    if not document.names():
                        return None
                    problem, code = f"the directory has no {RECORD_FILE}, so it is no document", "uncommitted-directory"
                    raise UnreadableDocument(self.stage, self.doc_id, document.path, problem, code=code)
                contents = {part: data for part in parts if (data := document.read(part)) is not None}
            except IsADirectoryError as error:
                problem = f"{error.filename} is no file"
                raise UnreadableDocument(self.stage, self.doc_id, document.path, problem) from None
            return Stored(record, contents)

    def find(self, parts: Collection[str] = ()) -> Stored | None:
        """Return the document, under its id or its interim name; None if it is under neither.

        Raises:
            NotADirectoryError, UnreadableDocument: as for `read`.
        """
        looks = 0
        for _ in range(TURNS):
            found = self.read(self.doc_id, parts) or self.read(self.old, parts)
            if found is not None:
                return found
            # A replace may have renamed it from the second name to the first meanwhile. Then its lock file is there;
            # one that nobody holds may be of a replace that was over a moment ago.
            if not self.directory.exists(lock_name(self.doc_id)):
                return None
            looks += not is_held(self.directory, self.doc_id)
            if looks == _LOOKS:
                return None
        return None

    def read_replaced(self, parts: Collection[str]) -> Stored | None:
        """Return the version under the interim name, where the new one is in place already."""
        old = self.read(self.old, parts)
        return old if old is not None and self.directory.exists(self.doc_id) else None

    def is_taken(self) -> bool:
        """Return whether what stands at the id claims it: an empty directory does not."""
        try:
            with self.directory.sub(self.doc_id) as document:
                return bool(document.names())
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            return True

    def holds(self, record: bytes) -> bool:
        """Return whether the document has this record, which a nonce makes one of a kind; False where it is unseen."""
        with contextlib.suppress(OSError), self.directory.sub(self.doc_id) as document:
            return document.read(RECORD_FILE) == record
        return False

    def open_history(self) -> Directory | None:
        """Open the directory of its history; None where there is none."""
        try:
            return open_below(self.root, (*HISTORY, self.stage, self.doc_id))
        except FileNotFoundError:
            return None

    def make_history(self) -> Directory:
        """Open the directory of its history, after making what is missing of it."""
        return make_below(self.root, (*HISTORY, self.stage, self.doc_id), sync=self.sync)

    def retire_old(self, history: Directory) -> None:
        """Move the version that was replaced from its interim name into history."""
        self.directory.move(self.old, entry_name(history.names()), history)
        self.sync_names(history)
        self.sync_names(self.directory)

    def sync_names(self, directory: Directory) -> None:
        """Make durable what was renamed in a directory, if that is asked for."""
        if self.sync:
            directory.sync()

    def sync_commit(self, directory: Directory) -> None:
        """Make the rename durable that has committed the document.

        Raises:
            DurabilityUnknown: the file system could not.
        """
        try:
            self.sync_names(directory)
        except OSError as error:
            raise self.durability_unknown(error) from error

    def durability_unknown(self, error: OSError) -> DurabilityUnknown:
        """Return the error that the document is there, and may not survive a power cut."""
        return DurabilityUnknown(self.stage, self.doc_id, join(self.directory.path, self.doc_id), str(error))


def read_entries(history: Directory, later: Stored | None, parts: Collection[str]) -> Iterator[Stored]:
    """Return the versions in a document's history, the latest first.

    Args:
        history: the directory of the history.
        later: the version that the latest of them comes before, if there is one.
        parts: the part files that are wanted.
    """
    known = None if later is None else later.record
    # Where only the record changed, the parts are those of the next later version.
    contents = {} if later is None else later.parts
    for name in reversed(entries(history.names())):
        record = None
        if name.endswith(".json"):
            record = history.read(name)
        else:
            # A purge may take it away at this moment.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), history.sub(name) as old:
                record = old.read(RECORD_FILE)
                contents = {part: data for part in parts if (data := old.read(part)) is not None}
        # An equal record is the one before, whose change was interrupted or has been put here since.
        if record is not None and record != known:
            known = record
            yield Stored(record, contents)
