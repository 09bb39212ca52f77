"""`docid repair`: move damaged documents and leftovers of dead writers to quarantine.

List the repairs of a store: unfinished documents of dead writers, interrupted replaces, and documents that are damaged
or in the wrong place. With --apply, docid finishes or rolls back the replaces, and moves the rest to
ROOT/.docid/quarantine; only --purge deletes. Writers may keep running. Exit code 1 if a repair failed.

Examples:
    # Move damaged documents and leftovers to quarantine
    docid repair --store data/docs --apply
    # Delete quarantined documents and replaced versions after 90 days
    docid repair --store data/docs --purge --history --older-than 90d --apply
"""

from collections import Counter

from docid._text import format_count, name_task
from docid.cli.arguments import AGE_UNITS, APPLY, STORE, VERIFY, Arguments, UsageError, argument, parse_age
from docid.cli.inputs import hint_at_other_stages, open_store
from docid.cli.output import Output
from docid.core.findings import Finding
from docid.operations.repair import repair
from docid.store.docs_store import DocsStore

# The words for each action, done and planned.
_VERBS = {
    "quarantine": ("moved", "to move"),
    "settle": ("settled", "to settle"),
    "purge": ("deleted", "to delete"),
    "leave": ("left alone", "left alone"),
}


def run(arguments: Arguments, out: Output) -> int:
    """Repair a store or list the repairs; return 1 if one failed."""
    if not arguments.purge and (arguments.history or arguments.older_than is not None):
        raise UsageError("--history and --older-than work only with --purge, which deletes; expected --purge with them")
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
    named = counts["leave"] + counts["skipped"]
    if counts.total() == named and arguments.stale_after and (young := _count_young(store, arguments) - named) > 0:
        unfinished = format_count(young, "unfinished or damaged document")
        out.print(f"{unfinished} changed less than {arguments.stale_after:,.0f} s ago: a writer may still use it")
        out.print("  -> if no writer runs, 'docid repair --stale-after 0s' shows what to do")
    return 1 if counts["failed"] else 0


def _count_young(store: DocsStore, arguments: Arguments) -> int:
    """Return how many repairs there would be without an age limit."""
    return sum(1 for _ in repair(store, verify=arguments.verify, stale_after=0))


def _summarize(counts: Counter[str], purge_age: float | None, *, apply: bool) -> str:
    """Return the number of repairs by action; `purge_age` is the age limit of --purge, in seconds."""
    some = [f"{counts[action]:,} {verbs[not apply]}" for action, verbs in _VERBS.items() if counts[action]]
    some += [f"{counts[state]:,} {state}" for state in ("skipped", "failed") if counts[state]]
    if purge_age is not None and not counts["purge"] + counts["failed"]:
        unit = next((each for each, size in AGE_UNITS.items() if purge_age and purge_age % size == 0), "s")
        some.append(f"nothing to purge is older than {purge_age / AGE_UNITS[unit]:g}{unit}")
    if not some:
        return "nothing to repair"
    pending = not apply and any(counts[action] for action in ("quarantine", "settle", "purge"))
    return ", ".join(some) + ("; dry run: --apply makes these changes" if pending else "")


ARGUMENTS = (
    APPLY,
    VERIFY,
    argument(
        "--stale-after AGE",
        "skip unfinished and damaged documents changed less than AGE ago (30m, 12h, 2d): a writer may still use them "
        "(default: 1h)",
        type=parse_age,
        default="1h",
    ),
    argument("--purge", "also delete old entries of the quarantine"),
    argument("--history", "with --purge: also delete replaced versions of the stages in --stages"),
    argument(
        "--older-than AGE",
        "with --purge: delete only entries quarantined or replaced more than AGE ago (default: 30d)",
        type=parse_age,
    ),
    argument("--json", "print one line of JSON per repair"),
    *STORE,
)
