"""Parents that no shard has found, looked for once more in all tables and all of the store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

from docid.core.findings import Finding
from docid.errors import UnreadableDocument
from docid.operations.shards.job import sorted_by
from docid.operations.shards.rows import holds_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docid.operations.shards.job import Found, Job, Reference
    from docid.store.backends.base import Backend

__all__ = ["resolved"]


def resolved(job: Job, founds: Sequence[Found]) -> Iterator[tuple[tuple[Any, ...], Finding]]:
    """Return what is wrong with the parents that no shard has found: missing, or of another stage.

    They are looked for once more: in a store that others write to they may be there by now.
    """
    references = [each for found in founds for each in found.references]
    if not references:
        return
    targets = {reference.target for reference in references}
    places = _Places(job, targets, {stage for found in founds for stage in found.blind})
    named = [(cast("str", job.stages.parent_of(each.stage)), each.target) for each in references]
    # Each is looked for once, many at a time where the home does that.
    once = list(dict.fromkeys(named))
    each = map if job.store is None else job.store.backend.each
    there = dict(zip(once, each(lambda name: places.has(*name), once), strict=True))
    for name, reference in zip(named, references, strict=True):
        if not there[name]:
            holding = tuple(stage for stage in job.stages if places.has(stage, reference.target))
            yield sorted_by(job.stages, _missing_parent(job, reference, holding), reference.number)


class _Places:
    """Where some doc ids are: in which tables, and under which stages of the store."""

    def __init__(self, job: Job, wanted: set[str], blind: set[str]) -> None:
        self._backend = None if job.store is None else job.store.backend
        self._blind = blind
        self._names: dict[str, set[str]] = {}
        self._reserved = {
            stage: {row[1] for _, row in table.lineages(stage, job.stages) if row[1] in wanted and holds_id(row[1])}
            for stage, table in job.tables.items()
        }

    def has(self, stage: str, doc_id: str) -> bool:
        """Return whether an id is reserved in a table, or something that is, or once was, a document stands there."""
        if doc_id in self._reserved.get(stage, ()):
            return True
        return self._backend is not None and stage not in self._blind and self._stands(self._backend, stage, doc_id)

    def _stands(self, backend: Backend, stage: str, doc_id: str) -> bool:
        try:
            return backend.load(stage, doc_id) is not None
        except UnreadableDocument as error:
            return error.code != "uncommitted-directory"
        except OSError:
            # What cannot be read is a finding of its own, if it is there at all.
            if stage not in self._names:
                with contextlib.suppress(UnreadableDocument, OSError):
                    self._names[stage] = set(backend.ids(stage))
            return doc_id in self._names.get(stage, ())


def _missing_parent(job: Job, reference: Reference, holding: tuple[str, ...]) -> Finding:
    parent_stage = job.stages.parent_of(reference.stage)
    parent = f"{parent_stage}/{reference.target}"
    if holding:
        code = "wrong-stage-parent"
        message = f"{reference.target} is of stage {', '.join(holding)}; expected a document of stage {parent_stage}"
        hint = "name a document of the parent's stage"
    else:
        code = "missing-parent"
        places = ["in the store"] if job.store is not None else []
        places += [f"reserved in the table of stage {parent_stage}"] if parent_stage in job.tables else []
        message = f"the parent {parent} is {'neither ' if len(places) == 2 else 'not '}{' nor '.join(places)}"  # noqa: PLR2004 - there are two places
        hint = "make or reserve the parent first, or name the one that is meant"
    return Finding(code, reference.stage, reference.doc_id, reference.task_id, reference.where, message, hint)
