"""What copy, migrate and backfill did to each document: printed as it comes, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from docid._text import name_task
from docid.cli.output import Output
from docid.core.findings import Change
from docid.store.docs_store import DocsStore


def list_facts(change: Change) -> dict[str, Any]:
    """Return what --json says of a document that was migrated, or got a key."""
    facts = change.to_dict()
    return {"action": facts.pop("outcome"), **facts}


def print_changes(
    out: Output,
    store: DocsStore,
    changes: Iterable[Change],
    describe: Callable[[Change], Iterator[str]],
    list_facts: Callable[[Change], dict[str, Any]] = list_facts,
) -> Counter[tuple[str, str]]:
    """Print each document as JSON or as the lines that describe it; return how many have each outcome, by stage."""
    counts: Counter[tuple[str, str]] = Counter()
    for change in changes:
        counts[change.stage, change.outcome] += 1
        out.progress.count_document(store, change.stage)
        out.print_json(list_facts(change))
        for text in describe(change):
            out.print(text)
    return counts


def describe_change(change: Change) -> Iterator[str]:
    """Yield what needs to be known of a record that was migrated, or got a key."""
    name = f"{change.location}{name_task(change.task_id)}"
    if change.outcome == "leave":
        yield f"left alone  {name}: {change.message}"
    if change.warning:
        yield f"differs     {name}: {change.warning}"


def format_counts(counts: Mapping[tuple[str, str], int], stage: str, words: Mapping[str, str]) -> str:
    """Return how many documents of a stage have each outcome."""
    return ", ".join(f"{counts[stage, outcome]:,} {word}" for outcome, word in words.items())
