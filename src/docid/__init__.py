"""docid: a crash-safe file store for LLM pipelines, which names each document before it exists."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from docid._version import __version__ as __version__
from docid.core.document import Document, Reply
from docid.core.ids import DocId, collision_probability, is_doc_id, reserve_doc_id, reserve_doc_ids
from docid.core.outcomes import Outcome, WriteManyError, WriteResult
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.errors import (
    ContentConflict,
    ConvertedError,
    DocidError,
    DocumentBusy,
    DocumentChanged,
    DocumentClaimed,
    DocumentNotFound,
    DuplicateTaskId,
    DurabilityUnknown,
    HasChildren,
    InvalidDocument,
    InvalidName,
    InvalidReply,
    LineageConflict,
    MissingParent,
    ReplyRescued,
    StagesConflict,
    StoreUnavailable,
    TaskTableError,
    TooManyFailures,
    UnreadableDocument,
    UnreadableManifest,
)
from docid.store.docs_store import DocsStore
from docid.store.ensured import Ensured
from docid.store.stored import StoredDocument

if TYPE_CHECKING:
    from docid.core.findings import Finding
    from docid.operations.audit import AuditReport, audit
    from docid.store.amany import AsyncManyRun
    from docid.store.many import ManyRun
    from docid.store.removal import Erasure, Removal
    from docid.store.rescue import RescuedReply
    from docid.tables.replicates import replicates
    from docid.tables.reserve import reserve_tasks
    from docid.tables.rows import DraftTask, EssayTask, EvaluationTask, TaskRow
    from docid.tables.tasks import read_tasks, write_tasks
else:
    # Imported at first use: they take a third of the time of `import docid`, and ids and the store do not need them.
    _LATER = {
        "AsyncManyRun": "docid.store.amany",
        "AuditReport": "docid.operations.audit",
        "DraftTask": "docid.tables.rows",
        "Erasure": "docid.store.removal",
        "EssayTask": "docid.tables.rows",
        "EvaluationTask": "docid.tables.rows",
        "Finding": "docid.core.findings",
        "ManyRun": "docid.store.many",
        "Removal": "docid.store.removal",
        "RescuedReply": "docid.store.rescue",
        "TaskRow": "docid.tables.rows",
        "audit": "docid.operations.audit",
        "read_tasks": "docid.tables.tasks",
        "replicates": "docid.tables.replicates",
        "reserve_tasks": "docid.tables.reserve",
        "write_tasks": "docid.tables.tasks",
    }

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module 'docid' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_LATER[name]), name)
        return value

    def __dir__() -> list[str]:
        return [*globals(), *_LATER]


__all__ = [
    "DEFAULT_STAGES",
    "AsyncManyRun",
    "AuditReport",
    "ContentConflict",
    "ConvertedError",
    "DocId",
    "DocidError",
    "DocsStore",
    "Document",
    "DocumentBusy",
    "DocumentChanged",
    "DocumentClaimed",
    "DocumentNotFound",
    "DraftTask",
    "DuplicateTaskId",
    "DurabilityUnknown",
    "Ensured",
    "Erasure",
    "EssayTask",
    "EvaluationTask",
    "Finding",
    "HasChildren",
    "InvalidDocument",
    "InvalidName",
    "InvalidReply",
    "LineageConflict",
    "ManyRun",
    "MissingParent",
    "Outcome",
    "Removal",
    "Reply",
    "ReplyRescued",
    "RescuedReply",
    "Stages",
    "StagesConflict",
    "StoreUnavailable",
    "StoredDocument",
    "TaskRow",
    "TaskTableError",
    "TooManyFailures",
    "UnreadableDocument",
    "UnreadableManifest",
    "WriteManyError",
    "WriteResult",
    "audit",
    "collision_probability",
    "is_doc_id",
    "read_tasks",
    "replicates",
    "reserve_doc_id",
    "reserve_doc_ids",
    "reserve_tasks",
    "write_tasks",
]
