"""The pipeline: write the document of every row, then check that all documents exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from docid import DocsStore, DraftTask, Ensured, MissingParent, TaskRow, read_tasks
from examples.essays.parsers import PARSERS
from examples.essays.tables import FILES, ROW_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from examples.essays.generators import Generator
    from examples.essays.inputs import Inputs, Template
    from examples.essays.tables import Combination


class UnknownTemplateError(Exception):
    """A row names a template, a parser or a combination that the inputs do not have."""


class NoParentTextError(Exception):
    """The parent has no parsed text, because its reply could not be parsed."""


@attrs.define
class Count:
    """The results of one stage.

    Attributes:
        rows: the rows of the task table.
        created: documents written in this run.
        kept: documents that existed already.
        calls: model calls.
        unparsed: documents without parsed text.
        skipped: rows that could not be run, each with its reason.
    """

    rows: int = 0
    created: int = 0
    kept: int = 0
    calls: int = 0
    unparsed: int = 0
    skipped: list[str] = attrs.field(factory=list)


class Pipeline:
    """Runs the stages draft, essay and evaluation.

    Args:
        store: the document store.
        tables: the directory of the task tables.
        inputs: concepts, templates and models.
        combos: the concepts of each combination.
        generators: the text generator of each stage.
    """

    def __init__(
        self,
        store: DocsStore,
        tables: Path,
        inputs: Inputs,
        combos: dict[str, Combination],
        generators: dict[str, Generator],
    ) -> None:
        self.store = store
        self.tables = tables
        self.inputs = inputs
        self.combos = combos
        self.generators = generators
        self.templates = {
            (stage, template.template_id): template
            for stage, templates in inputs.templates.items()
            for template in templates
        }

    def rows(self, stage: str) -> Iterable[TaskRow]:
        """Return the rows of a task table."""
        return read_tasks(self.tables / FILES[stage], ROW_TYPES[stage])

    def preflight(self) -> None:
        """Check every row before the first model call.

        Raises:
            UnknownTemplateError: a row cannot be rendered, or its reply cannot be parsed.
            docid.DocumentNotFound: the document that `source_doc_id` names is not in the store.
            docid.TaskTableError: a table is faulty.
        """
        for stage in ROW_TYPES:
            for row in self.rows(stage):
                template = self.templates.get((stage, _template_of(row)))
                if template is None:
                    wrong = f"{stage}_template {_template_of(row)!r}"
                elif template.parser not in PARSERS:
                    wrong = f"parser {template.parser!r} (of {stage}_template {template.template_id!r})"
                elif isinstance(row, DraftTask) and not row.source_doc_id and row.combo_id not in self.combos:
                    wrong = f"combo_id {row.combo_id!r}"
                else:
                    self.store.source_prompt(row)
                    continue
                raise UnknownTemplateError(f"{FILES[stage]}, task {row.task_id}: the inputs have no {wrong}")

    def run(self, stage: str, *, concurrency: int = 1) -> Count:
        """Write the documents of a stage that do not exist yet, with up to `concurrency` model calls at once."""
        count = Count()
        for rows, make, options in self._split(stage):
            with self.store.ensure_many(rows, make, concurrency=concurrency, **options) as run:
                for done in run:
                    self._add(count, done)
        return count

    async def arun(self, stage: str, *, concurrency: int = 1) -> Count:
        """Do what `run` does, on an event loop. docid calls the generators in threads."""
        count = Count()
        for rows, make, options in self._split(stage):
            async with self.store.aensure_many(rows, make, concurrency=concurrency, **options) as run:
                async for done in run:
                    self._add(count, done)
        return count

    def missing(self) -> Iterator[str]:
        """Yield a message for each row whose document, or whose parent, is not in the store."""
        for stage in ROW_TYPES:
            for row in self.rows(stage):
                name = f"{stage}/{row.doc_id} (task_id={row.task_id!r})"
                if not self.store.exists(stage, row.doc_id):
                    yield f"{name} is not written"
                elif row.parent_stage and not self.store.exists(row.parent_stage, row.parent_doc_id or ""):
                    yield f"{name}: its parent {row.parent_stage}/{row.parent_doc_id} is not in the store"

    def _split(self, stage: str) -> Iterator[tuple[Iterator[TaskRow], Callable[..., str], dict[str, Any]]]:
        """Yield the arguments of `ensure_many`, once for each parser and generator: all rows of a run share these."""
        kinds = dict.fromkeys((each.parser, each.generator) for each in self.inputs.templates[stage])
        for parser, generator in kinds:
            options = {"metadata": _describe, "parse": PARSERS[parser], "stop_after": None}
            rows = self._select(stage, parser, generator)
            if generator == "copy":
                yield rows, self._parent_text, options
            else:
                yield rows, self._generate, {"prompt": self._render, **options}

    def _select(self, stage: str, parser: str, generator: str) -> Iterator[TaskRow]:
        for row in self.rows(stage):
            template = self._template(row)
            if (template.parser, template.generator) == (parser, generator):
                yield row

    def _generate(self, row: TaskRow, prompt: str) -> str:
        _, model_name = _model_of(row)
        return self.generators[row.stage].generate(prompt, model_name)

    def _add(self, count: Count, done: Ensured[TaskRow]) -> None:
        """Count the result of a row; raise its error, unless the row is only skipped."""
        count.rows += 1
        if isinstance(done.error, (NoParentTextError, MissingParent)):
            count.skipped.append(f"{done.row.task_id}: {done.error}")
            return
        document = done.unwrap()
        count.created += done.outcome == "created"
        count.kept += done.outcome != "created"
        count.calls += done.called and self._template(done.row).generator != "copy"
        count.unparsed += "parsed" not in document.sizes

    def _template(self, row: TaskRow) -> Template:
        return self.templates[row.stage, _template_of(row)]

    def _render(self, row: TaskRow) -> str:
        # A row with a source_doc_id sends the prompt of that document again.
        prompt = self.store.source_prompt(row)
        if prompt is not None:
            return prompt
        if isinstance(row, DraftTask):
            return self.inputs.render("draft", row.draft_template, concepts=self.combos[row.combo_id].concepts)
        variable = "links_block" if row.stage == "essay" else "response"
        return self.inputs.render(row.stage, _template_of(row), **{variable: self._parent_text(row)})

    def _parent_text(self, row: TaskRow) -> str:
        parent = self.store.open(str(row.parent_stage), str(row.parent_doc_id))
        text = parent.parsed_text
        if text is None:
            raise NoParentTextError(f"its parent {parent.stage}/{parent.doc_id} has no parsed text")
        return text


def _describe(row: TaskRow) -> dict[str, str]:
    """Return the metadata of a row's document."""
    model_id, _ = _model_of(row)
    source = row.cell("source_doc_id")
    metadata = {"template_id": _template_of(row), "model_id": model_id, "combo_id": row.cell("combo_id")}
    return {**metadata, "source_doc_id": source} if source else metadata


def _template_of(row: TaskRow) -> str:
    return row.cell(f"{row.stage}_template")


def _model_of(row: TaskRow) -> tuple[str, str]:
    """Return the short id of a row's model, and its name at the provider."""
    column = "evaluation_model" if row.stage == "evaluation" else "generation_model"
    return row.cell(column), row.cell(f"{column}_name")
