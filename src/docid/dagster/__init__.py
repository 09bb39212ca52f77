"""Dagster: task tables as assets, documents as their partitions, all text through the store.

Needs the extra `dagster`. Described in `docs/dagster.md`.
"""

try:
    import dagster as _  # noqa: F401
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("docid.dagster needs Dagster: pip install 'docid-store[dagster]'") from error

from docid.dagster.checks import document_checks
from docid.dagster.manager import DocsIOManager
from docid.dagster.partitions import Registered, document_partitions, parent_input, register_partitions
from docid.dagster.replaying import replay_job
from docid.dagster.resource import DocsStoreResource
from docid.dagster.steps import IF_EXISTS_TAG, REPLAY_TAG, TASK_TAG
from docid.dagster.tables import task_table_asset

__all__ = [
    "IF_EXISTS_TAG",
    "REPLAY_TAG",
    "TASK_TAG",
    "DocsIOManager",
    "DocsStoreResource",
    "Registered",
    "document_checks",
    "document_partitions",
    "parent_input",
    "register_partitions",
    "replay_job",
    "task_table_asset",
]
