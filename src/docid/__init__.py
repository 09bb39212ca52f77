"""docid: names for a pipeline's documents before they exist, and a store that keeps them under those names."""

from __future__ import annotations

from docid._version import __version__ as __version__
from docid.core.document import Document
from docid.core.findings import Finding
from docid.core.ids import DocId, collision_probability, is_doc_id, reserve_doc_id, reserve_doc_ids
from docid.core.outcomes import BatchError, Outcome, WriteResult
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.errors import (
    ContentConflict,
    DocidError,
    DocumentBusy,
    DocumentNotFound,
    DuplicateTaskId,
    DurabilityUnknown,
    InvalidDocument,
    InvalidName,
    LineageConflict,
    MissingParent,
    StoreUnavailable,
    TaskTableError,
    UnreadableDocument,
)
from docid.operations.audit import AuditReport, audit
from docid.store.docs_store import DocsStore
from docid.store.stored import StoredDocument
from docid.tables.reserve import reserve_tasks
from docid.tables.rows import DraftTask, EssayTask, EvaluationTask, TaskRow
from docid.tables.tasks import read_tasks, write_tasks

__all__ = [
    "DEFAULT_STAGES",
    "AuditReport",
    "BatchError",
    "ContentConflict",
    "DocId",
    "DocidError",
    "DocsStore",
    "Document",
    "DocumentBusy",
    "DocumentNotFound",
    "DraftTask",
    "DuplicateTaskId",
    "DurabilityUnknown",
    "EssayTask",
    "EvaluationTask",
    "Finding",
    "InvalidDocument",
    "InvalidName",
    "LineageConflict",
    "MissingParent",
    "Outcome",
    "Stages",
    "StoreUnavailable",
    "StoredDocument",
    "TaskRow",
    "TaskTableError",
    "UnreadableDocument",
    "WriteResult",
    "audit",
    "collision_probability",
    "is_doc_id",
    "read_tasks",
    "reserve_doc_id",
    "reserve_doc_ids",
    "reserve_tasks",
    "write_tasks",
]
