"""The pipeline run whole, without a browser: `python -m examples.dagster_essays`."""

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Sequence

import dagster as dg

from examples.dagster_essays import DATA_ROOT, defs


def main(argv: list[str] | None = None) -> int:
    """Materialise everything, or with --replay one document again; return 0 if all of it succeeded."""
    parser = argparse.ArgumentParser(prog="python -m examples.dagster_essays", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="remove what an earlier run made, first")
    parser.add_argument(
        "--replay",
        nargs="?",
        const="",
        metavar="STAGE/ID",
        help="make a document again, from what is stored alone (the first draft if none is named)",
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
        return everything(instance) if arguments.replay is None else replay(instance, arguments.replay)


def everything(instance: dg.DagsterInstance) -> int:
    """Materialise tables, documents stage by stage, and scores."""
    done = True
    tables = dg.AssetSelection.groups("tables")
    done &= materialise(instance, "tables", tables, [None])
    for stage in ("draft", "essay", "evaluation"):
        keys = list(instance.get_dynamic_partitions(f"{stage}_documents"))
        done &= materialise(instance, stage, dg.AssetSelection.assets(stage), keys)
    done &= materialise(instance, "scores", dg.AssetSelection.assets("scores_table"), [None])
    return 0 if done else 1


def materialise(
    instance: dg.DagsterInstance, name: str, selection: dg.AssetSelection, keys: Sequence[str | None]
) -> bool:
    """Run a selection for each partition; say what became of its documents, and of the checks."""
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
    told = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()) if number)
    print(f"{name}: {len(keys)} runs: {told}")
    return not counts["runs failed"]


def replay(instance: dg.DagsterInstance, document: str) -> int:
    """Make a document again."""
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
