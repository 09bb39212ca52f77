"""Data frames of pandas, polars and pyarrow, through narwhals (extra `frames`)."""

from __future__ import annotations

try:
    import narwhals as _  # noqa: F401 - so that the message names the extra
except ImportError as error:  # pragma: no cover  - tested in an environment without it
    raise ImportError("docid.frames needs narwhals: pip install 'docid-store[frames]'") from error

from docid.integrations.frames.from_frame import frame_to_tasks, reserve_frame
from docid.integrations.frames.to_frame import documents_to_frame, findings_to_frame, scores_to_frame, tasks_to_frame

__all__ = [
    "documents_to_frame",
    "findings_to_frame",
    "frame_to_tasks",
    "reserve_frame",
    "scores_to_frame",
    "tasks_to_frame",
]
