"""Run the whole pipeline without the Dagster UI: `python -m examples.dagster_essays`."""

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Sequence

import dagster as dg

from examples.dagster_essays import DATA_ROOT, defs


def main(argv: list[str] | None = None) -> int:
    """Materialise everything, or replay one document; return 0 if all runs succeed."""
    parser = argparse.ArgumentParser(prog="python -m examples.dagster_essays", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="delete tables, store and results of earlier runs first")
    parser.add_argument(
        "--replay",
        nargs="?",
        const="",
        metavar="STAGE/ID",
        help="make a document again from its stored row and prompt (default: the first draft)",
    )
    arguments = parser.parse_args(argv)
    root = DATA_ROOT
    if arguments.fresh:
        for name in ("2_tasks", "docs", "dagster_home", "scores.csv"):
            path = root / name
            path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
    home = root / "dagster_home"
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return materialise_all(instance) if arguments.replay is None else replay(instance, arguments.replay)


def materialise_all(instance: dg.DagsterInstance) -> int:
    """Materialise the tables, the documents stage by stage, and the scores."""
    succeeded = materialise(instance, "tables", dg.AssetSelection.groups("tables"), [None])
    for stage in ("draft", "essay", "evaluation"):
        keys = list(instance.get_dynamic_partitions(f"{stage}_documents"))
        succeeded &= materialise(instance, stage, dg.AssetSelection.assets(stage), keys)
    succeeded &= materialise(instance, "scores", dg.AssetSelection.assets("scores_table"), [None])
    return 0 if succeeded else 1


def materialise(
    instance: dg.DagsterInstance, name: str, selection: dg.AssetSelection, keys: Sequence[str | None]
) -> bool:
    """Run a selection once per partition, and print the outcomes of its documents and checks."""
    job = dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job(f"demo_{name}", selection)]))
    counts: Counter[str] = Counter()
    resolved = job.resolve_job_def(f"demo_{name}")
    for key in keys:
        result = resolved.execute_in_process(partition_key=key, instance=instance, raise_on_error=False)
        counts["runs failed"] += not result.success
        for event in result.get_asset_materialization_events():
            outcome = event.materialization.metadata.get("outcome")
            counts[str(outcome.value) if outcome is not None else "written"] += 1
        counts["checks failed"] += sum(not each.passed for each in result.get_asset_check_evaluations())
    outcomes = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()) if number)
    print(f"{name}: {len(keys)} {'run' if len(keys) == 1 else 'runs'}: {outcomes}")
    return not counts["runs failed"]


def replay(instance: dg.DagsterInstance, document: str) -> int:
    """Make a document again from its stored row and prompt."""
    stage, _, key = (document or f"draft/{instance.get_dynamic_partitions('draft_documents')[0]}").partition("/")
    result = defs.resolve_job_def(f"replay_{stage}").execute_in_process(
        partition_key=key, instance=instance, raise_on_error=False
    )
    if not result.success:
        return 1
    [event] = result.get_asset_materialization_events()
    print(f"{stage}/{key} replayed: {event.materialization.metadata['outcome'].value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
