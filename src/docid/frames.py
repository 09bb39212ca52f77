"""Public import path of the data frame functions (extra `frames`). See `docs/seeing.md`."""

from __future__ import annotations

from docid.integrations.frames import (
    documents_to_frame,
    findings_to_frame,
    frame_to_tasks,
    replicate_frame,
    reserve_frame,
    scores_to_frame,
    task_scores_to_frame,
    tasks_to_frame,
)

__all__ = [
    "documents_to_frame",
    "findings_to_frame",
    "frame_to_tasks",
    "replicate_frame",
    "reserve_frame",
    "scores_to_frame",
    "task_scores_to_frame",
    "tasks_to_frame",
]
