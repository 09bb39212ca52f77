"""Going through the stages of an audit, parents first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from docid.core.findings import StageFacts
from docid.errors import TaskTableError
from docid.operations.audit.report import AuditReport
from docid.operations.audit.rows import RowChecks
from docid.operations.audit.store import Audit
from docid.operations.audit.tables import open_tables
from docid.tables.csvfile import Faults

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from docid.core.findings import Finding, Progress
    from docid.core.stages import Stages
    from docid.operations.audit.parallel import Examiner

__all__ = ["audit_stages"]


def audit_stages(
    stages: Stages,
    tables: Mapping[str, object] | None,
    examiner: Examiner | None,
    executor: Executor | None,
    progress: Progress | None,
) -> AuditReport:
    """Audit tables, and the store of the examiner if there is one. Raises what `audit` does."""
    under_way = Audit(stages, open_tables(tables, stages), examiner, executor, progress)
    faults = Faults("")
    for stage in stages:
        try:
            if faults.count == 0:
                _check_stage(under_way, stage)
            elif stage in under_way.tables:  # for its faults alone
                deque(under_way.tables[stage].lineages(), maxlen=0)
        except TaskTableError as error:
            faults.take_over(error)
    faults.raise_any()
    under_way.report_lost_parents()
    return _make_report(under_way)


def _check_stage(under_way: Audit, stage: str) -> None:
    under_way.list_ids(stage)
    checks = RowChecks(under_way, stage) if stage in under_way.tables else None
    if checks is not None:
        checks.check()
    under_way.check_rest(stage)
    if checks is not None:
        checks.check_sources()


def _make_report(under_way: Audit) -> AuditReport:
    positions = {stage: position for position, stage in enumerate(under_way.stages)}

    def rank(numbered: tuple[int, Finding]) -> tuple[object, ...]:
        number, each = numbered
        return each.level, positions[each.stage], each.code, number, each.doc_id, each.where, each.message

    unknown = dict.fromkeys(StageFacts._fields)
    stages = {stage: StageFacts(**{**unknown, **counts}) for stage in positions if (counts := under_way.counts[stage])}
    return AuditReport(tuple(finding for _, finding in sorted(under_way.findings, key=rank)), stages)
