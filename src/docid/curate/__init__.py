"""From a store back to tables: link, scores, select, replay; and records of older systems, migrated and completed.

Each function goes over the store once, and has a command of its name. They are described in `docs/curate.md`.
"""

from __future__ import annotations

from docid.curate.following import FollowUp, Model, Template, follow_up
from docid.curate.linking import Linked, link
from docid.curate.migration import Change, backfill, migrate
from docid.curate.notes import Note
from docid.curate.replaying import ReplayedRows, replay
from docid.curate.scoring import Score, read_scores, score_columns, scores, write_scores
from docid.curate.selecting import Pick, Selection, select

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
    "Template",
    "backfill",
    "follow_up",
    "link",
    "migrate",
    "read_scores",
    "replay",
    "score_columns",
    "scores",
    "select",
    "write_scores",
]
