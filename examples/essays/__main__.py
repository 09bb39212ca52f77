"""The main job: `python -m examples.essays`. See `docs/essays.md`."""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import time
from pathlib import Path

from docid import DocidError, DocsStore

try:
    from jinja2 import TemplateError
except ModuleNotFoundError:
    sys.exit("essays: the prompt templates are Jinja2's, which is not installed: pip install jinja2")

from examples.essays.generators import GenerationError, Generator, RecordedReplies, from_environment
from examples.essays.inputs import Inputs
from examples.essays.pipeline import Pipeline, UnknownTemplateError
from examples.essays.tables import ROW_TYPES, combinations, write_tables

SHOWN = 5


def main(argv: list[str] | None = None) -> int:
    """Run the pipeline and return the exit code: 0 if every row has its document, 1 if not, 2 for wrong input."""
    arguments = _parser().parse_args(argv)
    try:
        return run(arguments)
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
    """Build the tables, make what is missing, and check that all is there."""
    started, tables = time.perf_counter(), arguments.data_root / "2_tasks"
    inputs = Inputs(arguments.raw_data, all_templates=arguments.all_templates)
    combos = combinations(inputs, arguments.combination_size)
    before = peak_memory()
    if arguments.fresh:
        for written in (tables, arguments.data_root / "docs"):
            shutil.rmtree(written, ignore_errors=not written.exists())
    if not arguments.keep_tables:
        write_tables(tables, inputs, combos)
    generators: dict[str, Generator] = dict.fromkeys(ROW_TYPES, from_environment())
    if arguments.replies is not None:
        generators["evaluation"] = RecordedReplies(arguments.replies)
    store = DocsStore(arguments.data_root / "docs", durability=arguments.durability)
    pipeline = Pipeline(store, tables, inputs, combos, generators)
    print(f"input   {arguments.raw_data}: {len(inputs.concepts)} concepts, {len(combos)} combinations")
    print(f"texts   {', '.join(f'{stage}: {type(each).__name__}' for stage, each in generators.items())}")
    print(f"tables  {tables}\nstore   {store.backend.path('', '')}\n", flush=True)
    pipeline.preflight()

    print(f"{'stage':<12}{'rows':>8}{'created':>9}{'kept':>8}{'calls':>8}{'unparsed':>10}")
    counts = {}
    for stage in ROW_TYPES:
        count = counts[stage] = pipeline.run(stage)
        numbers = (count.rows, count.created, count.kept, count.calls, count.unparsed)
        print(
            f"{stage:<12}"
            + "".join(f"{number:>{width},}" for number, width in zip(numbers, (8, 9, 8, 8, 10), strict=True)),
            flush=True,
        )
        for reason in count.blocked[:SHOWN]:
            print(f"  not made: {reason}")

    missing = list(pipeline.missing())
    rows, created, calls = (
        sum(getattr(count, name) for count in counts.values()) for name in ("rows", "created", "calls")
    )
    print(f"\ncheck   {rows - len(missing):,} of {rows:,} rows have their document and its parent")
    for what in missing[:SHOWN]:
        print(f"  {what}")
    if created == 0 and not missing:
        print("        0 documents written, 0 model calls: every document existed")
    else:
        print(f"        {created:,} documents written, {calls:,} model calls")
    peak = peak_memory()
    print(
        f"cost    {time.perf_counter() - started:.1f} s; peak memory {peak / 1e6:.1f} MB, of which the rows made "
        f"{(peak - before) / 1e6:.1f} MB ({(peak - before) / max(rows, 1):.0f} bytes a row)"
    )
    return 1 if missing else 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes; 0 where the platform does not say."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.essays",
        description="Draft, essay, evaluation: build the task tables, make every document that is missing, check.",
        epilog="Texts come from an offline stand-in. With the environment variable ESSAYS_BASE_URL (and "
        "ESSAYS_API_KEY) they come from that OpenAI-compatible endpoint instead.",
    )
    here = Path(__file__).parent
    parser.add_argument("--raw-data", type=Path, metavar="DIR", default=here / "data" / "1_raw", help="the inputs")
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", default=Path("demo-data"), help="where tables and store go"
    )
    parser.add_argument("--replies", type=Path, metavar="DIR", help="answer evaluations with recorded replies (*.txt)")
    parser.add_argument("--all-templates", action="store_true", help="use every template, not only the active ones")
    parser.add_argument(
        "--combination-size", type=_positive, default=6, metavar="N", help="concepts a draft (default 6)"
    )
    parser.add_argument("--keep-tables", action="store_true", help="run the tables that are there, edited by hand, say")
    parser.add_argument("--durability", choices=["full", "none"], default="full", help="as for DocsStore")
    parser.add_argument("--fresh", action="store_true", help="remove tables and store of an earlier run first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
