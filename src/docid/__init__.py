"""docid: names for a pipeline's documents before they exist, and a store that keeps them under those names."""

from __future__ import annotations

from docid.audit import AuditReport, audit
from docid.document import Document
from docid.errors import (
    BatchError,
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
from docid.ids import DocId, collision_probability, is_doc_id, reserve_doc_id, reserve_doc_ids
from docid.outcomes import Outcome, WriteResult
from docid.stages import DEFAULT_STAGES, Stages
from docid.store import DocsStore
from docid.stored import StoredDocument
from docid.tasks import DraftTask, EssayTask, EvaluationTask, TaskRow, read_tasks, reserve_tasks, write_tasks

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

__version__ = "0.1.0"
