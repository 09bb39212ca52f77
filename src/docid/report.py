"""Public import path of the report page. See `docs/seeing.md`."""

from __future__ import annotations

from docid.integrations.report.gathering import Limits
from docid.integrations.report.rendering import Page, page, write_page, write_report

__all__ = ["Limits", "Page", "page", "write_page", "write_report"]
