"""A store to look at: one page of HTML that needs nothing else, and the views of documents in notebooks.

Made by the core alone. Every text is escaped; nothing that a document or a table says is run, and nothing is loaded.
"""

from __future__ import annotations

from docid.report.gathering import Limits
from docid.report.rendering import Page, page, write_page, write_report

__all__ = ["Limits", "Page", "page", "write_page", "write_report"]
