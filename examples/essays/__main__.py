"""The demo: `python -m examples.essays`. See `docs/essays.md`."""

from __future__ import annotations

import argparse
import asyncio
import csv
import shutil
import sys
import time
from pathlib import Path

from docid import DocidError, DocsStore

try:
    from jinja2 import TemplateError
except ModuleNotFoundError:
    sys.exit("essays: the prompt templates need Jinja2: pip install jinja2")

from examples.essays.generators import GenerationError, Generator, RecordedReplies, from_environment
from examples.essays.inputs import Inputs
from examples.essays.pipeline import Pipeline, UnknownTemplateError
from examples.essays.tables import ROW_TYPES, combinations, write_tables

SHOWN = 5  # skipped rows and missing documents to print
LEGEND = """
  created   written in this run
  kept      existed already, so no model was called
  calls     model calls; an essay that copies its draft needs none
  unparsed  stored without parsed text
"""


def main(argv: list[str] | None = None) -> int:
    """Run the pipeline and return the exit code: 0 if every row has its document, 1 if not, 2 for invalid input."""
    arguments = _parser().parse_args(argv)
    try:
        return run(arguments)
    except KeyboardInterrupt:
        print("essays: interrupted; the next run makes the missing documents", file=sys.stderr)
        return 130
    except (
        DocidError,
        GenerationError,
        UnknownTemplateError,
        TemplateError,
        csv.Error,
        OSError,
        ValueError,
        LookupError,
    ) as error:
        print(f"essays: {type(error).__name__}: {error}", file=sys.stderr)
        return 2


def run(arguments: argparse.Namespace) -> int:
    """Build the tables, write missing documents, and check that all documents exist."""
    started, tables = time.perf_counter(), arguments.data_root / "2_tasks"
    inputs = Inputs(arguments.raw_data, all_templates=arguments.all_templates)
    combos = combinations(inputs, arguments.combination_size)
    before = peak_memory()
    if arguments.fresh:
        for old in (tables, arguments.data_root / "docs"):
            shutil.rmtree(old, ignore_errors=not old.exists())
    if not arguments.keep_tables:
        write_tables(tables, inputs, combos)
    generators: dict[str, Generator] = dict.fromkeys(ROW_TYPES, from_environment())
    if arguments.replies is not None:
        generators["evaluation"] = RecordedReplies(arguments.replies)
    store = DocsStore(arguments.data_root / "docs", durability=arguments.durability)
    pipeline = Pipeline(store, tables, inputs, combos, generators)
    concepts = _count(len(inputs.concepts), "concept")
    print(f"input   {arguments.raw_data}: {concepts}, {_count(len(combos), 'combination')}")
    print(f"models  {', '.join(f'{stage}: {type(each).__name__}' for stage, each in generators.items())}")
    print(f"tables  {tables}: one row per document, with the doc id reserved")
    print(f"store   {store.root}: one directory per document\n", flush=True)
    pipeline.preflight()

    print(f"{'stage':<12}{'rows':>8}{'created':>9}{'kept':>8}{'calls':>8}{'unparsed':>10}")
    counts = {}
    for stage in ROW_TYPES:
        if arguments.is_async:
            count = asyncio.run(pipeline.arun(stage, concurrency=arguments.concurrency))
        else:
            count = pipeline.run(stage, concurrency=arguments.concurrency)
        counts[stage] = count
        print(
            f"{stage:<12}{count.rows:>8,}{count.created:>9,}{count.kept:>8,}{count.calls:>8,}{count.unparsed:>10,}",
            flush=True,
        )
        for reason in count.skipped[:SHOWN]:
            print(f"  skipped: {reason}")
    print(LEGEND)

    missing = list(pipeline.missing())
    rows, created, calls = (
        sum(getattr(count, name) for count in counts.values()) for name in ("rows", "created", "calls")
    )
    print(f"check   {rows - len(missing):,} of {_count(rows, 'row')} have their document and its parent")
    for what in missing[:SHOWN]:
        print(f"  {what}")
    written = f"{_count(created, 'document')} written, {_count(calls, 'model call')}"
    print(f"        {written}{': every document existed' if created == 0 and not missing else ''}")
    peak = peak_memory()
    print(
        f"cost    {time.perf_counter() - started:.1f} s; peak memory {peak / 1e6:.1f} MB, "
        f"{(peak - before) / 1e6:.1f} MB of it for the rows ({(peak - before) / max(rows, 1):.0f} bytes per row)"
    )
    return 1 if missing else 0


def peak_memory() -> int:
    """Return the peak memory of this process in bytes; 0 if the platform does not report it."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.essays",
        description="Build the task tables of drafts, essays and evaluations, write every missing document, and check "
        "that all documents exist.",
        epilog="By default an offline stand-in writes the texts. To call a model, set ESSAYS_BASE_URL (and "
        "ESSAYS_API_KEY) to an OpenAI-compatible endpoint.",
    )
    add = parser.add_argument
    inputs = Path(__file__).parent / "data" / "1_raw"
    add("--raw-data", type=Path, metavar="DIR", default=inputs, help="directory of the inputs (default: the example's)")
    add(
        "--data-root",
        type=Path,
        metavar="DIR",
        default=Path("demo-data"),
        help="directory for task tables and store (default: demo-data)",
    )
    add("--replies", type=Path, metavar="DIR", help="answer evaluation prompts with the recorded replies DIR/*.txt")
    add("--all-templates", action="store_true", help="use every template, not only the active ones")
    add("--combination-size", type=_positive, default=6, metavar="N", help="concepts per draft (default: 6)")
    add("--concurrency", type=_positive, default=8, metavar="N", help="model calls at once (default: 8)")
    add("--async", action="store_true", dest="is_async", help="run on an event loop, with aensure_many")
    add("--keep-tables", action="store_true", help="run the existing task tables, for example after editing them")
    add("--durability", choices=["full", "none"], default="full", help="sync files to disk, or not (default: full)")
    add("--fresh", action="store_true", help="delete the task tables and the store first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
