from __future__ import annotations

import pickle
from typing import Any

import pytest

from docid import DEFAULT_STAGES, InvalidName, Stages


def test_default_stages_are_draft_essay_evaluation() -> None:
    assert list(DEFAULT_STAGES) == ["draft", "essay", "evaluation"]
    assert [DEFAULT_STAGES.parent_of(stage) for stage in DEFAULT_STAGES] == [None, "draft", "essay"]
    assert DEFAULT_STAGES.children_of("essay") == ("evaluation",)
    assert len(DEFAULT_STAGES) == 3
    assert "essay" in DEFAULT_STAGES
    assert "chapter" not in DEFAULT_STAGES


def test_stages_may_branch() -> None:
    stages = Stages({"outline": None, "chapter": "outline", "blurb": "outline", "notes": None})
    assert stages.children_of("outline") == ("chapter", "blurb")
    assert stages.parent_of("notes") is None
    assert Stages.parse("outline, chapter , blurb:outline,notes:") == stages
    assert repr(stages) == ("Stages({'outline': None, 'chapter': 'outline', 'blurb': 'outline', 'notes': None})")
    assert eval(repr(stages), {"Stages": Stages}) == stages


def test_stages_are_values() -> None:
    chain = Stages.chain("draft", "essay", "evaluation")
    assert chain == DEFAULT_STAGES
    assert hash(chain) == hash(DEFAULT_STAGES)
    assert pickle.loads(pickle.dumps(chain)) == chain
    assert chain != Stages.chain("draft", "essay")


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        pytest.param({}, "at least one stage", id="none"),
        pytest.param(
            {"essay": "draft"},
            "stage essay, parent 'draft': not declared before essay; expected no parent",
            id="unknown parent",
        ),
        pytest.param({"a": "a"}, "not declared before a", id="its own parent"),
        pytest.param({"a": "b", "b": "a"}, "not declared before a", id="circle"),
        pytest.param({"Draft": None}, "stage 'Draft': not a stage name", id="upper case"),
        pytest.param({"nul": None}, "not a Windows device name", id="device"),
        pytest.param({"../x": None}, "not a stage name", id="path"),
    ],
)
def test_invalid_stages_are_refused(parents: dict[str, str | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stages(parents)


def test_stages_need_a_mapping() -> None:
    with pytest.raises(TypeError, match="expected a mapping of stage to parent stage .or Stages.chain., got list"):
        Stages(["draft", "essay"])  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [["draft", "essay"], ("draft", "essay"), iter(["draft"]), None, 7])
def test_chain_of_a_list_says_how_to_write_it(names: Any) -> None:
    hint = (
        r"expected names, such as Stages.chain\('draft'\), got \w+; write Stages.chain\(\*names\) for names in a list"
    )
    with pytest.raises(TypeError, match=hint):
        Stages.chain(names)
    with pytest.raises(TypeError, match=hint):
        Stages.chain("outline", names)


@pytest.mark.parametrize("parent", [["draft"], 7, {"draft"}])
def test_parent_that_is_no_text_is_refused(parent: Any) -> None:
    with pytest.raises(TypeError, match="stage essay, parent: expected a str or None, got"):
        Stages({"draft": None, "essay": parent})


def test_parse_needs_text() -> None:
    with pytest.raises(TypeError, match="stages: expected a str, such as 'draft,essay', got list"):
        Stages.parse(["draft"])  # type: ignore[arg-type]


def test_repeated_or_no_names_are_refused() -> None:
    with pytest.raises(ValueError, match="each name once"):
        Stages.chain("draft", "draft")
    with pytest.raises(ValueError, match="each name once"):
        Stages.parse("draft,draft")
    with pytest.raises(ValueError, match="at least one"):
        Stages.chain()


def test_error_for_unknown_stage_names_the_declared_ones() -> None:
    with pytest.raises(
        InvalidName, match="stage 'chapter': not a stage of this pipeline; expected one of draft, essay"
    ):
        DEFAULT_STAGES.parent_of("chapter")
    with pytest.raises(InvalidName, match="not a stage name"):
        DEFAULT_STAGES.check("../draft")
    with pytest.raises(TypeError, match="stage: expected a str, got list"):
        DEFAULT_STAGES.check(["draft"])  # type: ignore[arg-type]
