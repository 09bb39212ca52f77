"""Creating many documents with few syncs: all are built, the file system is synced once, then each is committed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from docid.errors import DocidError
from docid.store.backends.local.commit import commit_new
from docid.store.backends.local.directory import make_below
from docid.store.backends.local.errors import explain_errors
from docid.store.backends.local.place import Place
from docid.store.backends.local.temporary import Temporary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docid.store.backends.base import NewDocument
    from docid.store.backends.local.directory import Directory


class _Built(NamedTuple):
    place: Place
    temporary: Temporary
    record: bytes


def create_together(root: str, documents: Sequence[NewDocument]) -> dict[int, bool | Exception]:
    """Create documents durably with one sync of the file system; return what became of each, by number.

    What cannot be done so is left out, for `create`, which says by itself what is wrong with one: all documents of a
    stage whose file system has no such sync, before anything of them is written.
    """
    with contextlib.ExitStack() as stack:
        directories: dict[str, Directory | None] = {}
        built: dict[int, _Built] = {}
        taken: dict[int, bool | Exception] = {}
        for number, (stage, doc_id, record, parts) in enumerate(documents):
            with contextlib.suppress(OSError):
                if stage not in directories:
                    directories[stage] = None
                    made = stack.enter_context(make_below(root, (stage,), sync=True))
                    directories[stage] = made if made.can_sync_all() else None
                directory = directories[stage]
                if directory is None:
                    continue
                place = Place(directory, root, stage, doc_id, sync=True)
                if place.is_taken():
                    taken[number] = False
                    continue
                temporary = stack.enter_context(Temporary(directory, doc_id))
                temporary.fill(record, parts, sync=False)
                built[number] = _Built(place, temporary, record)
        try:
            for directory in {each.place.stage: each.place.directory for each in built.values()}.values():
                directory.sync_all()
        except OSError:
            return taken  # `create` syncs each of the others by itself, and says what fails
        return taken | _commit(built)


def _commit(built: Mapping[int, _Built]) -> dict[int, bool | Exception]:
    """Rename documents to their ids, then sync each stage directory once. One that a sweep took away is left out."""
    results: dict[int, bool | Exception] = {}
    for number, (place, temporary, record) in built.items():
        try:
            with explain_errors(place.root, place.stage, place.doc_id):
                results[number] = commit_new(place, temporary, record)
        except (DocidError, OSError) as error:
            if not temporary.was_swept():
                results[number] = error
    failed: dict[str, OSError] = {}
    for stage, directory in {each.place.stage: each.place.directory for each in built.values()}.items():
        try:
            directory.sync()
        except OSError as error:
            failed[stage] = error
    for number, (place, *_) in built.items():
        if results.get(number) is True and place.stage in failed:
            results[number] = place.durability_unknown(failed[place.stage])
    return results
