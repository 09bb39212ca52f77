"""The audit: is a task table safe to run, and is a store whole? It reads, and never writes."""

from docid.operations.audit.report import AuditReport
from docid.operations.audit.run import audit

__all__ = ["AuditReport", "audit"]
