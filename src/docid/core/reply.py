"""What a model call returned, and what `ensure` found out about it."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@frozen(repr=False)
class Reply:
    """What a model call returned. `make` returns it to `DocsStore.ensure`, which stores it as the row's document.

    The constructor accepts any values, so a reply that was paid for is never lost there. docid checks them when it
    stores the document; if it cannot, it saves the reply in a rescue file.

    Attributes:
        raw_text: the complete output of the model.
        parsed_text: the text that you parsed from it, or None.
        prompt_text: the prompt that was sent, if it differs from the `prompt` that you passed to `ensure`.
        metadata: what the call reported, such as usage or the served model. These keys win over the `metadata` that
            you passed to `ensure`.
        created_at: when the reply was made, with a time zone; by default the time when docid stores it.

    Example:
        >>> Reply("Once upon a time", metadata={"usage": 12})
        <Reply of 16 characters>
    """

    raw_text: str
    parsed_text: str | None = field(default=None, kw_only=True)
    prompt_text: str | None = field(default=None, kw_only=True)
    metadata: Mapping[str, Any] | None = field(default=None, kw_only=True)
    created_at: datetime | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        text = self.raw_text
        return f"<Reply of {len(text):,} characters>" if isinstance(text, str) else f"<Reply of {type(text).__name__}>"


def hash_given(prompt: str | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the hashes of the prompt and the metadata that were given to `ensure`, for `docid.given` of a record.

    SHA-256 in hex: of the prompt in UTF-8, and of each metadata value as JSON with sorted keys. `metadata` is
    converted already.
    """
    given: dict[str, Any] = {}
    if prompt is not None:
        given["prompt"] = sha256(prompt.encode()).hexdigest()
    if metadata is not None:
        given["metadata"] = {key: hash_value(value) for key, value in metadata.items()}
    return given


def hash_value(value: Any) -> str:
    """Return the SHA-256 in hex of a JSON value, which distinguishes 1, True and 1.0."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
