"""`docid repair`: clear away what dead writers left, and documents that cannot be used.

Say what there is to repair in a store, and with --apply do it: unfinished documents of writers that died, interrupted
replaces, documents that are torn or lie in the wrong place. Nothing is deleted: what is in the way is moved to
ROOT/.docid/quarantine, until --purge. Safe beside writers. Exit code 1 if something could not be done.
"""

from collections import Counter

from docid._text import name_task
from docid.cli.arguments import AGE_UNITS, APPLY, STORE, VERIFY, Arguments, UsageError, argument, parse_age
from docid.cli.inputs import hint_at_other_stages, open_store
from docid.cli.output import Output
from docid.core.findings import Finding
from docid.operations.repair import repair

# What was done, and what would be.
_VERBS = {
    "quarantine": ("moved", "to move"),
    "settle": ("settled", "to settle"),
    "purge": ("deleted", "to delete"),
    "leave": ("left alone", "left alone"),
}


def run(arguments: Arguments, out: Output) -> int:
    """Repair a store, or say what would be done; return 1 where something failed."""
    if not arguments.purge and (arguments.history or arguments.older_than is not None):
        raise UsageError("--history and --older-than say what --purge deletes; expected --purge with them")
    store = open_store(arguments)
    hint_at_other_stages(store)
    older_than = parse_age("30d") if arguments.older_than is None else arguments.older_than
    steps = repair(
        store,
        apply=arguments.apply,
        verify=arguments.verify,
        stale_after=arguments.stale_after,
        purge=arguments.purge,
        history=arguments.history,
        older_than=older_than,
    )
    counts: Counter[str] = Counter()
    for step in steps:
        is_skipped = arguments.apply and not step.done and step.action != "leave"
        state = "failed" if step.error is not None else "skipped" if is_skipped else step.action
        counts[state] += 1
        facts = step._asdict()
        finding: Finding | None = facts.pop("finding")
        out.print_json({**facts, "finding": finding and finding.to_dict()})
        verb = _VERBS[step.action][not step.done] if state == step.action else state
        task = "" if step.finding is None else name_task(step.finding.task_id)
        to = f" -> {step.to}" if step.to else ""
        out.print(f"{verb:<12} {step.path}{task}{to}: {step.error or step.message}")
    out.print(_summarize(counts, older_than if arguments.purge else None, apply=arguments.apply))
    return 1 if counts["failed"] else 0


def _summarize(counts: Counter[str], purged: float | None, *, apply: bool) -> str:
    """Return what was done, or would be; `purged` is the age of what was to be deleted, in seconds."""
    some = [f"{counts[action]:,} {verbs[not apply]}" for action, verbs in _VERBS.items() if counts[action]]
    some += [f"{counts[state]:,} {state}" for state in ("skipped", "failed") if counts[state]]
    if purged is not None and not counts["purge"] + counts["failed"]:
        unit = next((each for each, size in AGE_UNITS.items() if purged and purged % size == 0), "s")
        some.append(f"nothing put aside is older than {purged / AGE_UNITS[unit]:g}{unit}")
    if not some:
        return "nothing to repair"
    pending = not apply and any(counts[action] for action in ("quarantine", "settle", "purge"))
    return ", ".join(some) + ("; nothing was changed: --apply does it" if pending else "")


ARGUMENTS = (
    APPLY,
    VERIFY,
    argument(
        "--stale-after AGE",
        "what was touched in this time may belong to a writer, and is left alone (default: 1h)",
        type=parse_age,
        default="1h",
    ),
    argument("--purge", "delete what earlier runs moved to quarantine"),
    argument("--history", "with --purge: delete replaced versions too, of these stages"),
    argument(
        "--older-than AGE",
        "with --purge: only what was put aside longer ago than this: 30d, 12h, 0s (default: 30d)",
        type=parse_age,
    ),
    argument("--json", "print one line of JSON a step"),
    *STORE,
)
