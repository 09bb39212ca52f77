"""What Hypothesis makes documents of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from docid import Document

# Any text that UTF-8 can hold, with what text files are apt to lose.
contents = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [
        "",
        "\r\n",
        "\r",
        "\n\n",
        "a\x00b",
        "\ufeffmark",
        "x\x1a",
        "\U0001f40b",
        "  blanks \t",
        "\x85\u2028",
        "a\r\nb\rc\n",
    ]
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
metadata = st.dictionaries(st.sampled_from(["template_id", "model_id", "usage", "ключ", ""]), json_values, max_size=4)
moments = st.datetimes(datetime(1000, 1, 2), datetime(9998, 12, 30), timezones=st.just(UTC))


def documents(**fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "stage": st.just("draft"),
        "doc_id": st.sampled_from(["a1", "b2"]),
        "task_id": st.sampled_from(["t-1", "t-2"]),
        "raw_text": contents,
        "parsed_text": st.none() | contents,
        "prompt_text": st.none() | contents,
        "run_id": st.none() | st.just("run-1"),
        "metadata": metadata,
        "created_at": moments,
    }
    return st.builds(Document, **{**fields, **fixed})
