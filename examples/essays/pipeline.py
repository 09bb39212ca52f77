"""The pipeline: write the document of every row, then check that all documents exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from docid import DocsStore, DraftTask, Ensured, MissingParent, TaskRow, read_tasks
from examples.essays.parsers import PARSERS
from examples.essays.tables import FILES, ROW_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from examples.essays.generators import Generator
    from examples.essays.inputs import Inputs
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

    def run(self, stage: str) -> Count:
        """Write the documents of a stage that do not exist yet."""
        count = Count()
        for row in self.rows(stage):
            count.rows += 1
            try:
                done = self._ensure(row)
            except (NoParentTextError, MissingParent) as error:
                count.skipped.append(f"{row.task_id}: {error}")
                continue
            count.created += done.outcome == "created"
            count.kept += done.outcome != "created"
            count.calls += done.called and not self._is_copy(row)
            count.unparsed += "parsed" not in done.document.sizes
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

    def _ensure(self, row: TaskRow) -> Ensured[TaskRow]:
        """Return the document of a row. docid calls `generate` or `_parent_text` only if it does not exist."""
        model_id, model_name = _model_of(row)
        metadata = {"template_id": _template_of(row), "model_id": model_id, "combo_id": row.cell("combo_id")}
        if source := row.cell("source_doc_id"):
            metadata["source_doc_id"] = source
        parse = PARSERS[self.templates[row.stage, _template_of(row)].parser]
        if self._is_copy(row):
            return self.store.ensure(row, self._parent_text, metadata=metadata, parse=parse)

        def generate(row: TaskRow, prompt: str) -> str:
            return self.generators[row.stage].generate(prompt, model_name)

        return self.store.ensure(row, generate, prompt=self._render, metadata=metadata, parse=parse)

    def _is_copy(self, row: TaskRow) -> bool:
        return self.templates[row.stage, _template_of(row)].generator == "copy"

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


def _template_of(row: TaskRow) -> str:
    return row.cell(f"{row.stage}_template")


def _model_of(row: TaskRow) -> tuple[str, str]:
    """Return the short id of a row's model, and its name at the provider."""
    column = "evaluation_model" if row.stage == "evaluation" else "generation_model"
    return row.cell(column), row.cell(f"{column}_name")
