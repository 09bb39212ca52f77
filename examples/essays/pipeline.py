"""The pipeline itself: for every row of every table its document, and then the check that all of them are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from docid import DocsStore, Document, DraftTask, EssayTask, EvaluationTask, MissingParent, TaskRow, read_tasks
from examples.essays.parsers import PARSERS
from examples.essays.tables import FILES, ROW_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from examples.essays.generators import Generator
    from examples.essays.inputs import Inputs
    from examples.essays.tables import Combination


class UnknownTemplateError(Exception):
    """A row names a template, a parser or a combination that the inputs do not have."""


class NoParentTextError(Exception):
    """The parent's reply could not be parsed, so there is nothing to go on from."""


@attrs.define
class Count:
    """What became of the rows of one stage."""

    rows: int = 0
    created: int = 0
    kept: int = 0
    calls: int = 0
    unparsed: int = 0
    blocked: list[str] = attrs.field(factory=list)


class Pipeline:
    """Draft, essay, evaluation: prompts are rendered in memory and stored with the reply.

    Args:
        store: where the documents go.
        tables: the directory of the task tables.
        inputs: concepts, templates and models.
        combos: the concepts of each combination.
        generators: who answers the prompts of each stage.
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

    def rows(self, stage: str) -> Iterator[TaskRow]:
        """Return the rows of one table, as a stream."""
        return read_tasks(self.tables / FILES[stage], ROW_TYPES[stage])

    def preflight(self) -> None:
        """Look at every row before the first model is called.

        Raises:
            UnknownTemplateError: a row that cannot be rendered or parsed.
            docid.DocumentNotFound: a draft's `source_doc_id` that is not in the store.
            docid.TaskTableError: a faulty table.
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
        """Make what is missing of one stage."""
        count = Count()
        for row in self.rows(stage):
            count.rows += 1
            try:
                stored = self.store.ensure(row, lambda row=row: self._make(row, count))  # type: ignore[misc]
            except (NoParentTextError, MissingParent) as error:
                count.blocked.append(f"{row.task_id}: {error}")
                continue
            if stored.outcome == "created":
                count.created += 1
            else:
                count.kept += 1
            count.unparsed += "parsed" not in stored.sizes
        return count

    def missing(self) -> Iterator[str]:
        """Return what the end check finds: rows without a document, documents without their parent."""
        for stage in ROW_TYPES:
            for row in self.rows(stage):
                if not self.store.exists(stage, row.doc_id):
                    yield f"{stage}/{row.doc_id} ({row.task_id}) is not written"
                elif row.parent_stage and not self.store.exists(row.parent_stage, row.parent_doc_id or ""):
                    yield f"{stage}/{row.doc_id} ({row.task_id}) lacks its parent {row.parent_doc_id}"

    def _make(self, row: TaskRow, count: Count) -> Document:
        template = self.templates[row.stage, _template_of(row)]
        if template.generator == "copy":
            prompt, raw = None, self._parent_text(row)
        else:
            prompt = self.store.source_prompt(row)
            if prompt is None:
                prompt = self._render(row)
            count.calls += 1
            raw = self.generators[row.stage].generate(prompt, _model_of(row)[1])
        return Document.from_task(
            row,
            raw_text=raw,
            parsed_text=PARSERS[template.parser](raw),
            prompt_text=prompt,
            metadata={
                "template_id": template.template_id,
                "model_id": _model_of(row)[0],
                "combo_id": row.cell("combo_id"),
                **({"source_doc_id": row.cell("source_doc_id")} if row.cell("source_doc_id") else {}),
            },
        )

    def _render(self, row: TaskRow) -> str:
        if isinstance(row, DraftTask):
            return self.inputs.render("draft", row.draft_template, concepts=self.combos[row.combo_id].concepts)
        name = "links_block" if row.stage == "essay" else "response"
        return self.inputs.render(row.stage, _template_of(row), **{name: self._parent_text(row)})

    def _parent_text(self, row: TaskRow) -> str:
        parent = self.store.open(str(row.parent_stage), str(row.parent_doc_id))
        text = parent.parsed_text
        if text is None:
            raise NoParentTextError(f"its parent {parent.stage}/{parent.doc_id} has no parsed text")
        return text


def _template_of(row: TaskRow) -> str:
    return row.cell(f"{row.stage}_template")


def _model_of(row: TaskRow) -> tuple[str, str]:
    """Return the short id and the provider's name of the model that a row is for."""
    if isinstance(row, EvaluationTask):
        return row.evaluation_model, row.evaluation_model_name
    assert isinstance(row, (DraftTask, EssayTask))  # noqa: S101 - for the type checker
    return row.generation_model, row.generation_model_name
