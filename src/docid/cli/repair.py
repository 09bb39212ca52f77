"""`docid repair`: say what there is to repair, and do it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from docid._text import shown
from docid.cli.options import UsageError, add_store, age, seconds, store_of
from docid.cli.output import hint_at_other_stages, json_line, one_line, say
from docid.operations.repair import repair

if TYPE_CHECKING:
    import argparse

    from docid.operations.repair import Step

_VERBS = {
    "quarantine": ("moved", "to move"),
    "settle": ("settled", "to settle"),
    "purge": ("deleted", "to delete"),
    "leave": ("left alone", "left alone"),
}


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    mend = verbs.add_parser(
        "repair",
        allow_abbrev=False,
        help="clear away what dead writers left, and documents that cannot be used",
        description="Say what there is to repair in a store, and with --apply do it: unfinished documents of writers "
        "that died, interrupted replaces, documents that are torn or lie in the wrong place. Nothing is deleted: what "
        "is in the way is moved to ROOT/.docid/quarantine, until --purge. Safe beside writers. Exit code 1 if "
        "something could not be done.",
    )
    how = mend.add_mutually_exclusive_group()
    how.add_argument("--apply", action="store_true", help="do it; without this nothing is changed")
    how.add_argument("--dry-run", action="store_true", help="say what would be done (the default)")
    mend.add_argument("--verify", action="store_true", help="also compare the SHA-256 of every part with its record")
    mend.add_argument(
        "--stale-after",
        type=seconds,
        default="1h",
        metavar="AGE",
        help="what was touched in this time may belong to a writer, and is left alone (default: 1h)",
    )
    mend.add_argument("--purge", action="store_true", help="delete what earlier runs moved to quarantine")
    mend.add_argument(
        "--history", action="store_true", help="with --purge: delete replaced versions too, of these stages"
    )
    mend.add_argument(
        "--older-than",
        type=seconds,
        metavar="AGE",
        help="with --purge: only what was put aside longer ago than this: 30d, 12h, 0s (default: 30d)",
    )
    mend.add_argument("--json", action="store_true", help="print one line of JSON a step")
    add_store(mend)
    mend.set_defaults(run=_repair)


def _repair(arguments: argparse.Namespace) -> int:
    if not arguments.purge and (arguments.history or arguments.older_than is not None):
        raise UsageError("--history and --older-than say what --purge deletes; expected --purge with them")
    store = store_of(arguments)
    hint_at_other_stages(arguments)
    older_than = seconds("30d") if arguments.older_than is None else arguments.older_than
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
        state: str = step.action
        if step.error is not None:
            state = "failed"
        elif arguments.apply and not step.done and step.action != "leave":
            state = "skipped"
        counts[state] += 1
        if arguments.json:
            say(json_line(_step_facts(step)))
        else:
            verb = _VERBS[step.action][not step.done] if state == step.action else state
            text = f"{verb:<12} {step.path}"
            if step.finding is not None and step.finding.task_id is not None:
                text += f" (task_id={shown(step.finding.task_id)})"
            text += f" -> {step.to}" if step.to else ""
            say(one_line(f"{text}: {step.error or step.message}"))
    if not arguments.json:
        say(_summary(counts, older_than if arguments.purge else None, applied=arguments.apply))
    return 1 if counts["failed"] else 0


def _step_facts(step: Step) -> dict[str, Any]:
    finding = {} if step.finding is None else step.finding.to_dict()
    return {
        "action": step.action,
        "path": step.path,
        "message": step.message,
        "done": step.done,
        "to": step.to,
        "error": None if step.error is None else str(step.error),
        "finding": finding or None,
    }


def _summary(counts: Counter[str], purged: float | None, *, applied: bool) -> str:
    """Return what was done, or would be; `purged` is the age of what was to be deleted, in seconds."""
    some = [f"{counts[action]:,} {verbs[not applied]}" for action, verbs in _VERBS.items() if counts[action]]
    some += [f"{counts[state]:,} {state}" for state in ("skipped", "failed") if counts[state]]
    if purged is not None and not counts["purge"] + counts["failed"]:
        some.append(f"nothing put aside is older than {age(purged)}")
    if not some:
        return "nothing to repair"
    pending = not applied and any(counts[action] for action in ("quarantine", "settle", "purge"))
    return ", ".join(some) + ("; nothing was changed: --apply does it" if pending else "")
