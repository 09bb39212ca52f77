"""The report page: coverage, findings, scores and lineage of a store, one file of HTML that needs nothing else."""

from __future__ import annotations

import os
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from docid._html import element, head, name, number, row, text
from docid._text import utf8
from docid._version import __version__
from docid.core.document import timestamp
from docid.core.findings import LABELS
from docid.core.stages import DEFAULT_STAGES, Stages
from docid.integrations.report.charts import Spread, coverage_bar, histogram
from docid.integrations.report.gathering import Documents, Limits, gather
from docid.operations.audit import audit
from docid.operations.curate.scores import scored_by, scores
from docid.store.docs_store import DocsStore
from docid.tables.atomicfile import AtomicFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Executor

    from docid.core.findings import Finding, Progress, StageFacts
    from docid.operations.audit import AuditReport
    from docid.tables.tasks import TaskRow

__all__ = ["Page", "page", "write_page", "write_report"]

_FINDINGS = 1_000  # of each code
_STRIDE = 1_000  # so often progress is told


class Page(NamedTuple):
    """A report page, and what it holds.

    Attributes:
        html: the page.
        audit: what the audit found.
        documents: how many documents there are, those that cannot be used included.
        shown: how many of them the page has.
        texts: how many of their texts it has.
        texts_there: how many texts the documents on it have.
        scores: how many scores there are.
    """

    html: str
    audit: AuditReport
    documents: int
    shown: int
    texts: int
    texts_there: int
    scores: int

    def summary(self) -> dict[str, Any]:
        """Return what it holds as JSON takes it."""
        counts = {key: getattr(self, key) for key in ("documents", "shown", "texts", "texts_there", "scores")}
        return {"bytes": len(self.html.encode()), **counts, "audit": self.audit.summary()}


def page(
    store: DocsStore | str | os.PathLike[str],
    tables: Mapping[str, str | os.PathLike[str] | Iterable[TaskRow]] | None = None,
    *,
    stages: Stages | None = None,
    score_stage: str | None = None,
    verify: bool = False,
    executor: Executor | None = None,
    stale_after: float = 3600.0,
    limits: Limits = Limits(),  # noqa: B008 - a value that nothing changes
    directory: str | os.PathLike[str] | None = None,
    title: str | None = None,
    progress: Progress | None = None,
) -> Page:
    """Return a page that shows a store, and the tables that go with it. Nothing is written.

    It has no script but its own, loads nothing, and shows every text as text. Documents that cannot be read are among
    its findings.

    Args:
        store: a store, or its directory.
        tables: for each stage its table, as for `audit`.
        stages: the pipeline's stages; those of the store if not given, or the default ones.
        score_stage: the stage whose parsed texts are scores; the last one if not given.
        verify, executor, stale_after: as for `audit`.
        limits: how much of the store the page holds; the rest it links.
        directory: where the page is to be, for links to the files of documents; absolute ones if not given.
        title: the heading; `docid report` if not given.
        progress: as for `audit`.

    Raises:
        TaskTableError, InvalidName, OSError: as for `audit`.

    Example:
        >>> store = DocsStore("memory://")
        >>> found = page(store, title="Nothing yet")
        >>> found.documents, found.html[:15]
        (0, '<!doctype html>')
    """
    if isinstance(store, (str, os.PathLike)):
        store = DocsStore(store, stages=stages or DEFAULT_STAGES)
    # Before anything is looked at: another stage is refused.
    scored = scored_by(store, score_stage)
    report = audit(
        store, tables, stages=stages, verify=verify, executor=executor, stale_after=stale_after, progress=progress
    )
    where = None if directory is None else os.fspath(directory)
    heading = title or "docid report"
    documents = gather(store, where, limits, progress)
    spread, unscored = _scores(store, scored, progress)
    there = sum(documents.there.values())
    body = [
        _header(store, report, heading),
        "<main>",
        _coverage(report),
        _findings(report),
        _distribution(scored, spread, unscored),
        _lineage(documents, there),
        "</main>",
    ]
    html = _document(heading, body, _data(documents, report, there))
    counts = sum(len(each) for each in spread.values())
    return Page(html, report, there, documents.shown, *documents.texts, counts)


def write_report(
    path: str | os.PathLike[str],
    store: DocsStore | str | os.PathLike[str],
    tables: Mapping[str, str | os.PathLike[str] | Iterable[TaskRow]] | None = None,
    *,
    stages: Stages | None = None,
    score_stage: str | None = None,
    verify: bool = False,
    executor: Executor | None = None,
    stale_after: float = 3600.0,
    limits: Limits = Limits(),  # noqa: B008 - as above
    title: str | None = None,
    progress: Progress | None = None,
) -> Page:
    """Write the page that `page` returns to a file, in place of what is there, at once; return it.

    Links to the files of documents are relative, so that the page and the store can be moved together.

    Args:
        path: the file.
        store, tables, stages, score_stage, verify, executor, stale_after, limits, title, progress: as for `page`.

    Raises:
        TaskTableError, InvalidName: as for `page`.
        OSError: as for `page`, or the file cannot be written.

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
    """Write a page to a file, UTF-8, in place of what is there, at once.

    Args:
        path: the file.
        made: the page, from `page`; its `directory` says where its links start.

    Raises:
        OSError: the file cannot be written; what was there stays.
    """
    with AtomicFile(os.fspath(path)) as new:
        new.stream.write(made.html.encode())
        new.commit()


# --- the parts of the page -----------------------------------------------------------------------------------------


def _header(store: DocsStore, report: AuditReport, title: str) -> str:
    summary = report.summary()
    state = "error" if summary["errors"] else "warning" if summary["warnings"] else "good"
    told = f"{number(summary['errors'])} errors, {number(summary['warnings'])} warnings"
    made = timestamp(datetime.now(UTC))[:19].replace("T", " ")
    return element(
        "header",
        element("a", "To the lineage", href="#lineage-heading", class_="skip"),
        element("h1", name(title)),
        element("p", element("span", told, class_=f"state {state}")),
        element("p", f"Store {name(store.root)} · {made} UTC · docid {__version__}", class_="faint"),
    )


def _section(heading: str, *content: str, id_: str) -> str:
    title = element("h2", heading, id=f"{id_}-heading")
    return element("section", title, *content, aria_labelledby=f"{id_}-heading")


def _table(names: list[str], rows: Iterable[str], *, caption: str, class_: str = "") -> str:
    return element(
        "div",
        element(
            "table",
            element("caption", caption, class_="skip"),
            element("thead", head(names)),
            element("tbody", *rows),
            **({"class_": class_} if class_ else {}),
        ),
        class_="scroll",
    )


def _coverage(report: AuditReport) -> str:
    rows = []
    for stage, facts in report.stages.items():
        counts = [number(each) for each in facts]
        rows.append(row([name(stage), _bar(facts), *counts], texts=2))
    legend = "Of the rows of each table: written (green, tall), pending (amber, lower), with findings (red, lowest)."
    names = ["stage", "coverage", *LABELS.values()]
    table = _table(names, rows, caption="Rows and documents of each stage")
    told = element("p", legend, class_="faint") if any(facts.rows for facts in report.stages.values()) else ""
    return _section("Coverage", table, told, id_="coverage")


def _bar(facts: StageFacts) -> str:
    if facts.rows is None or facts.written is None or facts.pending is None:
        return "no table"
    return coverage_bar(facts.written, facts.pending, facts.rows)


def _findings(report: AuditReport) -> str:
    if not report.findings:
        return _section("Findings", element("p", "Nothing is wrong."), id_="findings")
    by_code = []
    for code, of_code in report.by_code().items():
        count, found = len(of_code), of_code[:_FINDINGS]
        rows = (row(_cells(each), texts=5) for each in found)
        table = _table(
            ["document", "task", "where", "what is wrong", "what to do"],
            rows,
            caption=f"Findings of code {text(code)}",
            class_="findings",
        )
        more = element("p", f"… and {number(count - len(found))} more.") if count > len(found) else ""
        summary = element("summary", f"{text(code)} ({found[0].level}): {number(count)}")
        by_code.append(element("details", summary, table, more, class_=found[0].level))
    return _section("Findings", *by_code, id_="findings")


def _cells(finding: Finding) -> list[str]:
    key = f"{finding.stage}/{finding.doc_id}"
    document = element("a", name(key), href=f"#{key}") if finding.doc_id else name(finding.stage)
    return [
        document,
        name("—" if finding.task_id is None else finding.task_id),
        name(finding.where),
        text(finding.message),
        text(finding.hint),
    ]


_Kind = tuple[str, str]  # template and model


def _scores(
    store: DocsStore, stage: str, progress: Progress | None
) -> tuple[dict[_Kind, list[float]], dict[_Kind, int]]:
    """Return the scores of a stage, and how many documents have none, by template and model."""
    spread: dict[_Kind, list[float]] = {}
    unscored: dict[_Kind, int] = {}
    for done, each in enumerate(scores(store, stage), 1):
        kind = (each.template_id, each.model_id)
        spread.setdefault(kind, [])
        if each.score is None:
            unscored[kind] = unscored.get(kind, 0) + 1
        else:
            spread[kind].append(each.score)
        if progress is not None and done % _STRIDE == 0:
            progress(f"scores of stage {stage}", done, None)
    return spread, unscored


def _distribution(stage: str, spread: dict[_Kind, list[float]], unscored: dict[_Kind, int]) -> str:
    every = [score for each in spread.values() for score in each]
    heading = f"Scores of stage {name(stage)}"
    if not every:
        count = number(sum(unscored.values()))
        none = f"No document has a number as its parsed text; {count} have none."
        return _section(heading, element("p", none), id_="scores")
    least, most = min(every), max(every)
    rows = []
    for (template, model), of_kind in sorted(spread.items()):
        kind = [name(template or "—"), name(model or "—")]
        if of_kind:
            held = Spread.of(of_kind)
            plot = histogram(of_kind, least, most)
            numbers = [f"{value:g}" for value in (held.least, held.median, round(held.mean, 3), held.most)]
        else:
            plot, numbers = "", ["—"] * 4
        counts = [number(len(of_kind)), number(unscored.get((template, model), 0))]
        rows.append(row([*kind, plot, *counts, *numbers], texts=3))
    names = ["template", "model", f"from {least:g} to {most:g}", "scores", "without", "least", "median", "mean", "most"]
    table = _table(names, rows, caption="Scores by template and model")
    legend = "The line in each plot is the median; plots have one range, and each its own height."
    return _section(heading, table, element("p", legend, class_="faint"), id_="scores")


def _lineage(documents: Documents, there: int) -> str:
    notes = []
    if documents.shown < there:
        told = f"The page has {number(documents.shown)} of {number(there)} documents: of each stage the first by task."
        notes.append(element("p", told))
    held, of = documents.texts
    if held < of:
        told = f"It has {number(held)} of {number(of)} texts; the others are linked, where there are files."
        notes.append(element("p", told, class_="faint"))
    tools = element(
        "div",
        element("label", "Search", for_="search"),
        element(
            "input",
            id="search",
            type="search",
            autocomplete="off",
            placeholder="id, task, template, model …",
            aria_controls="tree",
        ),
        element("button", "Fold all", type="button", id="fold"),
        element("button", "Unfold a level", type="button", id="unfold"),
        class_="tools",
    )
    listed = element("ul", id="tree", role="tree", aria_label="Documents by lineage", class_="tree")
    keys = "In the tree: arrow keys move, fold and unfold; Enter shows a document."
    tree = element(
        "div",
        tools,
        element("p", "", id="status", role="status", class_="faint"),
        element("div", listed, class_="tree-box"),
        element("p", keys, class_="faint"),
    )
    detail = element(
        "div",
        element("p", "Choose a document to see its record and its texts.", class_="faint"),
        id="detail",
        class_="detail",
        role="region",
        aria_label="Document",
    )
    without = element("noscript", element("p", "The lineage needs JavaScript; all above does not."))
    view = element("div", tree, detail, id="lineage", class_="lineage", hidden="")
    return _section("Lineage", *notes, without, view, id_="lineage")


def _data(documents: Documents, report: AuditReport, there: int) -> str:
    """Return what the script reads, as JSON that cannot end the element it stands in."""
    told = [
        (f"{each.stage}/{each.doc_id}", each.level, f"{each.code}: {each.message}")
        for each in islice((finding for finding in report.findings if finding.doc_id), _FINDINGS * 10)
    ]
    findings = [tuple(utf8(part) for part in each) for each in told]
    data = {**documents.data, "findings": findings, "isCut": documents.shown < there}
    # What could end the element, or begin a comment in it, is written otherwise; JSON reads it the same.
    return orjson.dumps(data).decode().replace("</", "<\\/").replace("<!--", "\\u003c!--")


def _document(title: str, body: list[str], data: str) -> str:
    """Return the page; it lets nothing run but its own script, and loads nothing."""
    style, script = (_asset(each) for each in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {_hashed(style)}; script-src {_hashed(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            element("title", text(title)),
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            *body,
            f'<script type="application/json" id="data">{data}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _asset(file: str) -> str:
    return Path(__file__).with_name(file).read_text("utf-8")


def _hashed(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
