"""What copy, migrate and backfill did to each document: printed as it comes, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from docid._text import name_task
from docid.cli.output import Output
from docid.operations.copy import Copied
from docid.operations.migrate import Change
from docid.store.docs_store import DocsStore

Each = TypeVar("Each", Copied, Change)


def get_outcome(change: Copied | Change) -> str:
    """Return what became of a document."""
    return change.outcome if isinstance(change, Copied) else change.action


def list_facts(change: Copied | Change) -> dict[str, Any]:
    """Return what --json says of a document."""
    return change._asdict()


def print_changes(
    out: Output, store: DocsStore, changes: Iterable[Each], describe: Callable[[Each], Iterator[str]]
) -> Counter[tuple[str, str]]:
    """Print each document as JSON or as the lines that describe it; return how many have each outcome, by stage."""
    counts: Counter[tuple[str, str]] = Counter()
    for change in changes:
        counts[change.stage, get_outcome(change)] += 1
        out.progress.count_document(store, change.stage)
        out.print_json(list_facts(change))
        for text in describe(change):
            out.print(text)
    return counts


def describe_change(change: Change) -> Iterator[str]:
    """Yield what needs to be known of a record that was migrated, or got a key."""
    name = f"{change.location}{name_task(change.task_id)}"
    if get_outcome(change) == "leave":
        yield f"left alone  {name}: {change.message}"
    if change.warning:
        yield f"differs     {name}: {change.warning}"


def format_counts(counts: Mapping[tuple[str, str], int], stage: str, words: Mapping[str, str]) -> str:
    """Return how many documents of a stage have each outcome."""
    return ", ".join(f"{counts[stage, outcome]:,} {word}" for outcome, word in words.items())
