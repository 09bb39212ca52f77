"""Render the report page: coverage, findings, scores and lineage of a store, in one self-contained HTML file."""

from __future__ import annotations

import os
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from docid._html import element, head, name, number, row, text
from docid._text import escape_surrogates, format_count
from docid._version import __version__
from docid.core.document import timestamp
from docid.core.findings import LABELS
from docid.integrations.report.gathering import Limits, gather, report_progress
from docid.operations.audit import audit
from docid.operations.curate.scores import find_score_stage, scores
from docid.store.docs_store import DocsStore
from docid.tables.csvfile import AtomicFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Executor

    from docid.core.findings import Progress
    from docid.core.stages import Stages
    from docid.operations.audit import AuditReport
    from docid.tables.rows import TaskRow

    ScoresByKind = dict[tuple[str, str], list[float | None]]  # by template and model; None for a document without one

_FINDINGS = 1_000  # findings shown per code
_BINS = 20  # bars of a histogram
_WIDTH, _HEIGHT = 160, 28  # pixels of a plot


class Page(NamedTuple):
    """A report page, the audit report, and the counts of the store and the page.

    Attributes:
        html: the page.
        audit: the audit report.
        documents: the number of documents in the store, unreadable ones included.
        shown: the number of documents on the page.
        texts: the number of texts on the page.
        texts_there: the number of texts that the documents on the page have.
        scores: the number of scores in the store.
    """

    html: str
    audit: AuditReport
    documents: int
    shown: int
    texts: int
    texts_there: int
    scores: int

    def summary(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        counts = {key: getattr(self, key) for key in ("documents", "shown", "texts", "texts_there", "scores")}
        return {"bytes": len(self.html.encode()), **counts, "audit": self.audit.summary()}


def page(
    store: DocsStore | str | os.PathLike[str],
    tables: Mapping[str, str | os.PathLike[str] | Iterable[TaskRow]] | None = None,
    *,
    stages: Stages | None = None,
    score_stage: str | None = None,
    delimiter: str = ",",
    verify: bool = False,
    executor: Executor | None = None,
    stale_after: float = 3600.0,
    limits: Limits = Limits(),  # noqa: B008 - an immutable value
    directory: str | os.PathLike[str] | None = None,
    title: str | None = None,
    progress: Progress | None = None,
) -> Page:
    """Return a report page of a store and its task tables.

    The page loads no other files and runs no script but its own. Texts of documents are escaped.

    Args:
        store: a store, or its directory.
        tables, delimiter, verify, executor, stale_after, progress: as for `audit`.
        stages: the pipeline's stages; default: those of the store.
        score_stage: the stage whose parsed texts are scores; default: the last one.
        limits: the limits of the page, which links to everything beyond them.
        directory: the directory of the page, for relative links to document files; default: absolute links.
        title: the heading; default: `docid report`.

    Raises:
        TaskTableError, InvalidName, OSError: as for `audit`.

    Example:
        >>> store = DocsStore("memory://")
        >>> found = page(store, title="Nothing yet")
        >>> found.documents, found.html[:15]
        (0, '<!doctype html>')
    """
    if isinstance(store, (str, os.PathLike)):
        store = DocsStore(store, stages=stages)
    scored = find_score_stage(store, score_stage)  # first, so that a wrong stage fails before the audit
    report = audit(
        store,
        tables,
        stages=stages,
        delimiter=delimiter,
        verify=verify,
        executor=executor,
        stale_after=stale_after,
        progress=progress,
    )
    data, counts = gather(store, None if directory is None else os.fspath(directory), limits, progress)
    by_kind: ScoresByKind = {}
    for done, each in enumerate(scores(store, scored), 1):
        by_kind.setdefault((each.template_id, each.model_id), []).append(each.score)
        report_progress(progress, f"scores of stage {scored}", done)
    heading = title or "docid report"
    files = {kind: Path(__file__).with_name(f"page.{kind}").read_text("utf-8") for kind in ("css", "js", "html")}
    # The Content-Security-Policy allows only the style and the script with these hashes.
    hashes = {kind: b64encode(sha256(content.encode()).digest()).decode() for kind, content in files.items()}
    html = Template(files["html"]).substitute(
        title=text(heading),
        style=files["css"],
        style_hash=f"'sha256-{hashes['css']}'",
        script=files["js"],
        script_hash=f"'sha256-{hashes['js']}'",
        header=_render_header(store, report, heading),
        sections="\n".join([_render_coverage(report), _render_findings(report), _render_scores(scored, by_kind)]),
        notes=_render_notes(**counts),
        data=_render_data(data, report),
    )
    return Page(html, report, **counts, scores=sum(score is not None for each in by_kind.values() for score in each))


def write_report(
    path: str | os.PathLike[str],
    store: DocsStore | str | os.PathLike[str],
    tables: Mapping[str, str | os.PathLike[str] | Iterable[TaskRow]] | None = None,
    *,
    stages: Stages | None = None,
    score_stage: str | None = None,
    delimiter: str = ",",
    verify: bool = False,
    executor: Executor | None = None,
    stale_after: float = 3600.0,
    limits: Limits = Limits(),  # noqa: B008 - as for page
    title: str | None = None,
    progress: Progress | None = None,
) -> Page:
    """Write a report page to a file, replacing it atomically, and return the page.

    Links to document files are relative, so you can move the page and the store together.

    Args:
        path: the file. For the other arguments see `page`.

    Raises:
        TaskTableError, InvalidName, OSError: as for `page`; or the file cannot be written, and the old one stays.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "report.html")
        >>> made = write_report(file, DocsStore("memory://"))
        >>> file.read_text("utf-8") == made.html
        True
    """
    made = page(
        store,
        tables,
        stages=stages,
        score_stage=score_stage,
        delimiter=delimiter,
        verify=verify,
        executor=executor,
        stale_after=stale_after,
        limits=limits,
        directory=os.path.dirname(os.path.abspath(os.fspath(path))),
        title=title,
        progress=progress,
    )
    write_page(path, made)
    return made


def write_page(path: str | os.PathLike[str], made: Page) -> None:
    """Write a page to a file (UTF-8), replacing it atomically.

    Args:
        path: the file.
        made: the page, from `page` with the file's directory as `directory`.

    Raises:
        OSError: the old file stays.
    """
    with AtomicFile(os.fspath(path)) as new:
        new.stream.write(made.html.encode())
        new.commit()


def _render_header(store: DocsStore, report: AuditReport, title: str) -> str:
    summary = report.summary()
    state = "error" if summary["errors"] else "warning" if summary["warnings"] else "good"
    counts = f"{format_count(summary['errors'], 'error')}, {format_count(summary['warnings'], 'warning')}"
    made = timestamp(datetime.now(UTC))[:19].replace("T", " ")
    return element(
        "header",
        element("a", "Skip to the lineage", href="#lineage-heading", class_="skip"),
        element("h1", name(title)),
        element("p", element("span", counts, class_=f"state {state}")),
        element("p", f"Store {name(store.root)} · {made} UTC · docid {__version__}", class_="faint"),
    )


def _render_section(heading: str, *content: str, id_: str) -> str:
    title = element("h2", heading, id=f"{id_}-heading")
    return element("section", title, *content, aria_labelledby=f"{id_}-heading")


def _render_table(names: list[str], rows: Iterable[str], *, caption: str, **attributes: str) -> str:
    parts = (element("caption", caption, class_="skip"), element("thead", head(names)), element("tbody", *rows))
    return element("div", element("table", *parts, **attributes), class_="scroll")


def _render_coverage(report: AuditReport) -> str:
    rows = []
    for stage, facts in report.stages.items():
        bar = "no table"
        if facts.rows is not None and facts.written is not None and facts.pending is not None:
            bar = draw_coverage_bar(facts.written, facts.pending, facts.rows)
        rows.append(row([name(stage), bar, *map(number, facts)], texts=2))
    names = ["stage", "coverage", *LABELS.values()]
    table = _render_table(names, rows, caption="Rows and documents of each stage")
    legend = "Rows of each table: written (green, tall bar), pending (amber, medium), with findings (red, low)."
    has_rows = any(facts.rows for facts in report.stages.values())
    return _render_section("Coverage", table, element("p", legend, class_="faint") if has_rows else "", id_="coverage")


def _render_findings(report: AuditReport) -> str:
    if not report.findings:
        return _render_section("Findings", element("p", "No findings."), id_="findings")
    names = ["document", "task", "where", "problem", "what to do"]
    by_code = []
    for code, found in report.by_code().items():
        rows = []
        for each in found[:_FINDINGS]:
            key = f"{each.stage}/{each.doc_id}"
            document = element("a", name(key), href=f"#{key}") if each.doc_id else name(each.stage)
            task = name("—" if each.task_id is None else each.task_id)
            rows.append(row([document, task, name(each.where), text(each.message), text(each.hint)], texts=5))
        table = _render_table(names, rows, caption=f"Findings of code {text(code)}", class_="findings")
        left_out = len(found) - _FINDINGS
        more = element("p", f"… and {number(left_out)} more.") if left_out > 0 else ""
        summary = element("summary", f"{text(code)} ({found[0].level}): {number(len(found))}")
        by_code.append(element("details", summary, table, more, class_=found[0].level))
    return _render_section("Findings", *by_code, id_="findings")


def _render_scores(stage: str, by_kind: ScoresByKind) -> str:
    heading = f"Scores of stage {name(stage)}"
    every = [score for of_kind in by_kind.values() for score in of_kind if score is not None]
    if not every:
        count = number(sum(map(len, by_kind.values())))
        none = f"No scores. Documents without a number as their parsed text: {count}."
        return _render_section(heading, element("p", none), id_="scores")
    lowest, highest = min(every), max(every)
    rows = []
    for (template, model), of_kind in sorted(by_kind.items()):
        found = [score for score in of_kind if score is not None]
        plot, spread = "", ["—"] * 4
        if found:
            plot = draw_histogram(found, lowest, highest)
            spread = [f"{value:g}" for value in (min(found), median(found), round(fmean(found), 3), max(found))]
        counts = [number(len(found)), number(len(of_kind) - len(found))]
        rows.append(row([name(template or "—"), name(model or "—"), plot, *counts, *spread], texts=3))
    spread_names = ["min", "median", "mean", "max"]
    names = ["template", "model", f"from {lowest:g} to {highest:g}", "scores", "no score", *spread_names]
    table = _render_table(names, rows, caption="Scores by template and model")
    legend = "The line in each plot is the median. All plots have the same range; each is scaled to its highest bar."
    return _render_section(heading, table, element("p", legend, class_="faint"), id_="scores")


def _render_notes(documents: int, shown: int, texts: int, texts_there: int) -> str:
    """Return notes on documents and texts that the page leaves out."""
    cut = f"The page shows {shown:,} of {documents:,} documents: the first ones of each stage by task id."
    linked = f"It contains {texts:,} of {texts_there:,} texts. It links to the others if the store is a directory."
    notes = element("p", cut) if shown < documents else ""
    return notes + (element("p", linked, class_="faint") if texts < texts_there else "")


def _render_data(data: dict[str, Any], report: AuditReport) -> str:
    """Return the data for page.js, as JSON that cannot close its script element."""
    about_documents = (finding for finding in report.findings if finding.doc_id)
    findings = [
        [
            escape_surrogates(part)
            for part in (f"{each.stage}/{each.doc_id}", each.level, f"{each.code}: {each.message}")
        ]
        for each in islice(about_documents, _FINDINGS * 10)
    ]
    # "</script>" would close the element, and "<!--" would open a comment in it.
    return orjson.dumps(data | {"findings": findings}).decode().replace("</", "<\\/").replace("<!--", "\\u003c!--")


def draw_coverage_bar(written: int, pending: int, rows: int) -> str:
    """Return a bar of a stage's rows: written, pending, and other (rows with findings)."""
    shares = [("written", written), ("pending", pending), ("other", max(0, rows - written - pending))]
    bars, x = [], 0.0
    for (kind, count), height in zip(shares, (12, 8, 4), strict=True):  # heights, for readers who see no colours
        width = _WIDTH * count / rows if rows else 0.0
        bars.append(_draw_bar(x, 12 - height, width, height, kind))
        x += width
    counts = ", ".join(f"{count:,} {kind}" for kind, count in shares)
    return _draw_picture(12, f"of {format_count(rows, 'row')}: {counts}", bars)


def draw_histogram(numbers: Sequence[float], lowest: float, highest: float) -> str:
    """Return a histogram of 20 bins over the range from `lowest` to `highest`."""
    counts = [0] * _BINS
    span = highest - lowest
    for each in numbers:
        counts[min(_BINS - 1, int((each - lowest) / span * _BINS)) if span else _BINS // 2] += 1
    width = _WIDTH / _BINS
    heights = [_HEIGHT * count / max(counts) for count in counts]
    shapes = [
        _draw_bar(position * width + 0.5, _HEIGHT - height, width - 1, height)
        for position, height in enumerate(heights)
        if height
    ]
    x = f"{(median(numbers) - lowest) / span * _WIDTH if span else _WIDTH / 2:.1f}"
    shapes.append(element("line", x1=x, x2=x, y1="0", y2=f"{_HEIGHT}", class_="median"))
    count = format_count(len(numbers), "score")
    title = f"{count} from {min(numbers):g} to {max(numbers):g}, median {median(numbers):g}"
    return _draw_picture(_HEIGHT, title, shapes)


def _draw_bar(x: float, y: float, width: float, height: float, kind: str = "bar") -> str:
    return element("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=f"{height:.1f}", class_=kind)


def _draw_picture(height: int, title: str, shapes: Sequence[str]) -> str:
    size = {"width": str(_WIDTH), "height": str(height), "viewBox": f"0 0 {_WIDTH} {height}"}
    return element("svg", element("title", title), *shapes, role="img", aria_label=title, **size)
