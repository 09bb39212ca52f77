"""What the pipeline is made from: concepts, templates and models, as CSV and text files below one directory."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import attrs
from jinja2 import Environment, StrictUndefined

if TYPE_CHECKING:
    from pathlib import Path


@attrs.frozen
class Concept:
    """One concept: its id, its name, and the paragraph that prompts quote."""

    concept_id: str
    name: str
    content: str


@attrs.frozen
class Template:
    """One prompt template: its id, the parser of its replies, and who makes the text (`llm` or `copy`)."""

    template_id: str
    parser: str
    generator: str


@attrs.frozen
class Model:
    """One model: its short id, its name at the provider, and what it is used for."""

    model_id: str
    name: str
    for_generation: bool
    for_evaluation: bool


class Inputs:
    """The directory `1_raw` of a pipeline.

    Args:
        directory: where it is.
        all_templates: use every template, not only those marked active.

    Raises:
        OSError: a file is missing or cannot be read.
    """

    def __init__(self, directory: Path, *, all_templates: bool = False) -> None:
        self.directory = directory
        paragraphs = directory / "concepts" / "descriptions-paragraph"
        self.concepts = [
            Concept(row["concept_id"], row["name"], _text(paragraphs / f"{row['concept_id']}.txt"))
            for row in _rows(directory / "concepts_metadata.csv")
            if _true(row["active"])
        ]
        self.templates = {
            stage: [
                Template(row["template_id"], row.get("parser") or "", row.get("generator") or "llm")
                for row in _rows(directory / f"{stage}_templates.csv")
                if all_templates or _true(row["active"])
            ]
            for stage in ("draft", "essay", "evaluation")
        }
        self.models = [
            Model(row["id"], row["model"], _true(row["for_generation"]), _true(row["for_evaluation"]))
            for row in _rows(directory / "llm_models.csv")
        ]
        self._environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - prompts are text, not HTML
        self._compiled = {
            (stage, template.template_id): self._environment.from_string(self._source(stage, template.template_id))
            for stage, templates in self.templates.items()
            for template in templates
            if template.generator == "llm"
        }

    def render(self, stage: str, template_id: str, **values: object) -> str:
        """Return a prompt: the template with these values in their places."""
        return self._compiled[stage, template_id].render(**values)

    def _source(self, stage: str, template_id: str) -> str:
        where = "evaluation_templates" if stage == "evaluation" else f"generation_templates/{stage}"
        return _text(self.directory / where / f"{template_id}.txt")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def _text(path: Path) -> str:
    return path.read_bytes().decode()


def _true(text: str) -> bool:
    return text.strip().lower() == "true"
