"""Public import path of curation. See `docs/curate.md`."""

from __future__ import annotations

from docid.core.findings import Change
from docid.operations.curate.aggregate import TaskScore, aggregate_columns, aggregate_scores
from docid.operations.curate.follow_up import FollowUp, Model, Template, follow_up
from docid.operations.curate.link import Linked, link
from docid.operations.curate.reparse import reparse
from docid.operations.curate.replay import Note, ReplayedRows, replay
from docid.operations.curate.scores import (
    Pick,
    Score,
    Selection,
    read_scores,
    score_columns,
    scores,
    select,
    write_scores,
)
from docid.operations.migrate import backfill, migrate

__all__ = [
    "Change",
    "FollowUp",
    "Linked",
    "Model",
    "Note",
    "Pick",
    "ReplayedRows",
    "Score",
    "Selection",
    "TaskScore",
    "Template",
    "aggregate_columns",
    "aggregate_scores",
    "backfill",
    "follow_up",
    "link",
    "migrate",
    "read_scores",
    "reparse",
    "replay",
    "score_columns",
    "scores",
    "select",
    "write_scores",
]
