"""The audit's report."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
from attrs import frozen

from docid._text import format_count
from docid.core.findings import LABELS, LEVELS

if TYPE_CHECKING:
    from docid.core.findings import ChangedSource, Finding, StageFacts


@frozen(repr=False)
class AuditReport:
    """The result of an audit. It is true if there are no errors: `if audit(…): run()`.

    Attributes:
        findings: all findings: errors first, then by stage, code, and row or doc id. Every executor gives the same
            order.
        stages: the counts of each stage.
        changed: the documents that were made from another version of their parent, or of an input, than the store has
            now: one entry for each finding `parent-changed` and `input-changed`.

    Example:
        >>> from docid import TaskRow, audit
        >>> report = audit(None, {"draft": [TaskRow.of("draft")(task_id="t-1")]})
        >>> report
        <AuditReport 1 error, 0 warnings: missing-doc-id 1>
        >>> report.ok, report.counts, report.stages["draft"].rows
        (False, {'missing-doc-id': 1}, 1)
        >>> print(report.findings[0])
        missing-doc-id: stage draft (task_id='t-1') at row 1, column doc_id: empty; run 'docid reserve' to fill it
    """

    findings: tuple[Finding, ...]
    stages: dict[str, StageFacts]
    changed: tuple[ChangedSource, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings do not count."""
        return not any(finding.level == "error" for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each code found, errors first."""
        return {code: len(findings) for code, findings in self.by_code().items()}

    def by_code(self) -> dict[str, list[Finding]]:
        """Return the findings of each code found, errors first."""
        by_code: dict[str, list[Finding]] = {code: [] for code in LEVELS}
        for finding in self.findings:
            by_code[finding.code].append(finding)
        return {code: findings for code, findings in by_code.items() if findings}

    def rows(self) -> list[dict[str, Any]]:
        """Return the findings as rows for a data frame: code, level, stage, doc_id, task_id, where, message, hint."""
        return [finding.to_dict() for finding in self.findings]

    def summary(self) -> dict[str, Any]:
        """Return the report without its findings, as JSON values: `ok`, `errors`, `warnings`, `counts`, `stages`."""
        levels = Counter(finding.level for finding in self.findings)
        return {
            "ok": self.ok,
            "errors": levels["error"],
            "warnings": levels["warning"],
            "counts": self.counts,
            "stages": {stage: facts._asdict() for stage, facts in self.stages.items()},
        }

    def to_json(self) -> str:
        """Return the report as one JSON object: the keys of `summary`, and `findings`."""
        return orjson.dumps({**self.summary(), "findings": self.rows()}, option=orjson.OPT_INDENT_2).decode()

    def __repr__(self) -> str:
        summary = self.summary()
        codes = ", ".join(f"{code} {count:,}" for code, count in summary["counts"].items())
        levels = f"{format_count(summary['errors'], 'error')}, {format_count(summary['warnings'], 'warning')}"
        return f"<AuditReport {levels}{codes and f': {codes}'}>"

    def _repr_html_(self) -> str:
        from docid import _html  # noqa: PLC0415 - only notebooks need it

        summary = self.summary()
        state = "no errors" if self.ok else format_count(summary["errors"], "error")
        lines = [_html.head(["stage", *LABELS.values()])]
        for stage, facts in self.stages.items():
            lines.append(_html.row([_html.name(stage), *map(_html.number, facts)], texts=1))
        folds = []
        for code, findings in self.by_code().items():
            table = [_html.head(["where", "task", "problem", "what to do"])]
            for each in findings[:20]:
                names = (_html.name(each.where), _html.name(each.task_id or "—"))
                table.append(_html.row([*names, _html.text(each.message), _html.text(each.hint)], texts=4))
            if more := findings[20:]:
                table.append(_html.row([f"… and {len(more):,} more", "", "", ""], texts=4))
            heading = f"{_html.text(code)} ({findings[0].level}): {len(findings):,}"
            folds.append(_html.fold(heading, _html.element("table", *table)))
        title = f"AuditReport · {state}, {format_count(summary['warnings'], 'warning')}"
        return _html.box(title, _html.element("table", *lines), *folds)
