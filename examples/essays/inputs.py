"""The inputs of the pipeline: concepts, templates and models, as CSV and text files in one directory."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import attrs
from jinja2 import Environment, StrictUndefined

if TYPE_CHECKING:
    from pathlib import Path


@attrs.frozen
class Concept:
    """A concept: its id, its name, and the paragraph that prompts quote."""

    concept_id: str
    name: str
    content: str


@attrs.frozen
class Template:
    """A prompt template: its id, the parser of its replies, and its generator.

    The generator is `llm`, or `copy` for a document that copies its parent's text.
    """

    template_id: str
    parser: str
    generator: str


@attrs.frozen
class Model:
    """A model: its short id, its name at the provider, and its uses."""

    model_id: str
    name: str
    for_generation: bool
    for_evaluation: bool


class Inputs:
    """The inputs in a directory `1_raw`.

    Args:
        directory: the directory.
        all_templates: use every template, not only the active ones.

    Raises:
        OSError: a file is missing or cannot be read.
    """

    def __init__(self, directory: Path, *, all_templates: bool = False) -> None:
        self.directory = directory
        paragraphs = directory / "concepts" / "descriptions-paragraph"
        self.concepts = [
            Concept(row["concept_id"], row["name"], _read_text(paragraphs / f"{row['concept_id']}.txt"))
            for row in _read_rows(directory / "concepts_metadata.csv")
            if _is_true(row["active"])
        ]
        self.templates = {
            stage: [
                Template(row["template_id"], row.get("parser") or "", row.get("generator") or "llm")
                for row in _read_rows(directory / f"{stage}_templates.csv")
                if all_templates or _is_true(row["active"])
            ]
            for stage in ("draft", "essay", "evaluation")
        }
        self.models = [
            Model(row["id"], row["model"], _is_true(row["for_generation"]), _is_true(row["for_evaluation"]))
            for row in _read_rows(directory / "llm_models.csv")
        ]
        self._environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - prompts are text, not HTML
        self._compiled = {
            (stage, template.template_id): self._environment.from_string(self._source(stage, template.template_id))
            for stage, templates in self.templates.items()
            for template in templates
            if template.generator == "llm"
        }

    def render(self, stage: str, template_id: str, **values: object) -> str:
        """Render a template to a prompt."""
        return self._compiled[stage, template_id].render(**values)

    def _source(self, stage: str, template_id: str) -> str:
        where = "evaluation_templates" if stage == "evaluation" else f"generation_templates/{stage}"
        return _read_text(self.directory / where / f"{template_id}.txt")


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def _read_text(path: Path) -> str:
    return path.read_bytes().decode()


def _is_true(text: str) -> bool:
    return text.strip().lower() == "true"
