"""Public import path of the Dagster integration (extra `dagster`). See `docs/dagster.md`."""

from docid.integrations.dagster.checks import document_checks
from docid.integrations.dagster.manager import DocsIOManager
from docid.integrations.dagster.partitions import (
    Registered,
    document_partitions,
    parent_input,
    register_partitions,
    report_existing,
    task_table_asset,
)
from docid.integrations.dagster.resource import (
    IF_EXISTS_TAG,
    REPARSE_TAG,
    REPLAY_TAG,
    TASK_TAG,
    DocsStoreResource,
    reparse_job,
    replay_job,
)

__all__ = [
    "IF_EXISTS_TAG",
    "REPARSE_TAG",
    "REPLAY_TAG",
    "TASK_TAG",
    "DocsIOManager",
    "DocsStoreResource",
    "Registered",
    "document_checks",
    "document_partitions",
    "parent_input",
    "register_partitions",
    "reparse_job",
    "replay_job",
    "report_existing",
    "task_table_asset",
]
