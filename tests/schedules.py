"""A schedule explorer: real operations on one document, switched at every call of the file system.

Each operation runs in a thread of its own, with a store of its own, as a process would. One thread runs at a time.
Before a call that others can see, it stops, and the plan decides who goes on. A plan that stops a thread there for good
kills it: none of its later calls reaches the file system, except that its locks are released.

A plan is an order of the operations and a list of switches. Without switches each operation runs to its end, in that
order. `explore` tries every plan with up to a number of switches (Musuvathi and Qadeer, "Iterative context bounding for
systematic testing of multithreaded programs", PLDI 2007: most faults need two or three).
"""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, permutations
from typing import Any, NamedTuple

# Calls that change or read names that others see. What a thread does through an open descriptor only it can see.
VISIBLE = ("mkdir", "open", "rename", "rmdir", "unlink", "stat", "listdir", "scandir", "utime")
CHANGES = ("mkdir", "rename", "rmdir", "unlink")
SILENT = (
    "fsync",
    "write",
    "pwrite",
    "truncate",
    "read",
    "fstat",
)  # no switch before these, but a dead thread does not do them


_NAPS = 100  # that one operation takes at most, unless it waits for ever


class Killed(BaseException):
    """Ends the thread of a killed operation."""


class Switch(NamedTuple):
    """At this point of the run go on with another operation; with `kill` the one that ran until then is dead."""

    at: int
    to: int
    kill: bool = False


class Plan(NamedTuple):
    """The order in which operations run, and the switches between them."""

    order: tuple[int, ...]
    switches: tuple[Switch, ...] = ()


class Outcome(NamedTuple):
    """What an operation returned or raised; None twice if it was killed."""

    value: Any = None
    error: BaseException | None = None
    killed: bool = False


class Run(NamedTuple):
    """What happened under a plan: the outcome of each operation, and at each point who ran and who else could."""

    plan: Plan
    outcomes: list[Outcome]
    points: list[tuple[int, tuple[int, ...]]]


class _Actor:
    """A thread that runs one operation, a step at a time."""

    def __init__(self, number: int, operation: Callable[[], Any]) -> None:
        self.number = number
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.waits = self.is_dead = self.is_over = False
        self.naps = 0  # how often it has waited for a time, and not for a lock
        self.outcome = Outcome(killed=True)
        self._thread = threading.Thread(target=self._work, args=(operation,), daemon=True)
        self._thread.start()

    def _work(self, operation: Callable[[], Any]) -> None:
        _local.actor = self
        self.go.acquire()
        try:
            if not self.is_dead:
                self.outcome = Outcome(operation())
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - the checks judge it
            self.outcome = Outcome(error=error)
        _local.actor = None
        self.is_over = True
        self.stopped.release()

    def step(self) -> None:
        """Let it run to its next stop, or to its end."""
        self.go.release()
        self.stopped.acquire()

    def stop(self) -> None:
        """Wait for the next step; called in its own thread."""
        self.stopped.release()
        self.go.acquire()
        if self.is_dead:
            raise Killed

    def kill(self) -> None:
        self.is_dead = True
        if not self.is_over:
            self.step()
        assert self.is_over, "a killed operation went on"
        self.outcome = Outcome(killed=True)


_local = threading.local()


@contextmanager
def _watch(stops: Sequence[str]) -> Iterator[None]:
    """Let every thread of an operation stop before each of these calls."""
    originals = {name: getattr(os, name) for name in (*VISIBLE, *SILENT)}
    flock = fcntl.flock

    def stand_in(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            actor = getattr(_local, "actor", None)
            if actor is not None:
                if actor.is_dead:
                    raise Killed
                if name in stops:
                    actor.stop()
            return original(*args, **options)

        return call

    def lock(fd: Any, how: int) -> Any:
        actor = getattr(_local, "actor", None)
        if actor is None or how & fcntl.LOCK_UN:
            return flock(fd, how)
        if actor.is_dead:
            raise Killed
        if "flock" in stops:
            actor.stop()
        while True:
            try:
                return flock(fd, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if how & fcntl.LOCK_NB:
                    raise
            actor.waits = True
            actor.stop()
            actor.waits = False

    def wait(seconds: Any) -> None:
        """Let the others go on, as a process does that waits for a claim."""
        actor = getattr(_local, "actor", None)
        if actor is None:
            sleep(seconds)
            return
        actor.waits = True
        actor.naps += 1
        actor.stop()
        actor.waits = False

    sleep = time.sleep
    for name, original in originals.items():
        setattr(os, name, stand_in(name, original))
    fcntl.flock = lock
    time.sleep = wait
    try:
        yield
    finally:
        time.sleep = sleep
        for name, original in originals.items():
            setattr(os, name, original)
        fcntl.flock = flock


def run(plan: Plan, operations: Sequence[Callable[[], Any]], stops: Sequence[str] = (*VISIBLE, "flock")) -> Run:
    """Run operations under a plan."""
    switches = {switch.at: switch for switch in plan.switches}
    points: list[tuple[int, tuple[int, ...]]] = []
    with _watch(stops):
        actors = [_Actor(number, operation) for number, operation in enumerate(operations)]
        current = actors[plan.order[0]]
        while True:
            current.step()
            for actor in actors:  # a lock may be free by now
                if actor is not current:
                    actor.waits = False
            others = tuple(n for n in plan.order if n != current.number and not actors[n].is_over)
            if not current.is_over and not current.waits:
                points.append((current.number, others))
                switch = switches.get(len(points) - 1)
                # Times differ from run to run, so the other operation may be over, or may run already.
                if switch is None or switch.to not in others:
                    continue
                if switch.kill:
                    current.kill()
                current = actors[switch.to]
                continue
            # It is over, or waits for a lock: the next in order goes on. If all of them wait, nobody ever ends.
            if not others:
                if current.is_over:
                    break
                if 0 < current.naps < _NAPS:
                    continue
                raise AssertionError(f"deadlock under {plan}")
            if not current.is_over and all(actors[n].waits for n in others) and not 0 < current.naps < _NAPS:
                raise AssertionError(f"deadlock under {plan}")
            current = actors[others[0]] if current.is_over or len(others) == 1 else actors[_next(plan, current, others)]
    return Run(plan, [actor.outcome for actor in actors], points)


def _next(plan: Plan, current: _Actor, others: tuple[int, ...]) -> int:
    """Return the next operation in the plan's order, after the current one, going round."""
    at = plan.order.index(current.number)
    return next(number for number in (*plan.order[at + 1 :], *plan.order[:at]) if number in others)


def explore(
    operations: Callable[[], Sequence[Callable[[], Any]]],
    check: Callable[[Run], None],
    *,
    switches: int,
    kills: bool = False,
    stops: Sequence[str] = (*VISIBLE, "flock"),
    sample: int | None = None,
    seed: int = 0,
) -> int:
    """Run every plan with up to `switches` switches, and check each; return how many were run.

    Args:
        operations: makes a fresh state, and returns the operations on it.
        check: judges a run; called before the next state is made.
        switches: the largest number of switches.
        kills: also kill an operation at a switch; at most one of a plan.
        stops: the calls before which an operation can be stopped.
        sample: run at most so many plans of each number of switches, chosen at random.
        seed: of that choice.
    """
    choose = random.Random(seed)
    count, plans = 0, [Plan(order) for order in permutations(range(len(operations())))]
    for depth in range(switches + 1):
        following: list[Plan] = []
        for plan in plans:
            done = run(plan, operations(), stops)
            check(done)
            count += 1
            if depth < switches:
                following += _extend(done, kills=kills)
        plans = following if sample is None else choose.sample(following, min(sample, len(following)))
    return count


def _extend(done: Run, *, kills: bool) -> Iterator[Plan]:
    """Yield the plans with one more switch, after the last one."""
    order, switches = done.plan
    first = switches[-1].at + 1 if switches else 0
    can_kill = kills and not any(switch.kill for switch in switches)
    for at, (_, others) in islice(enumerate(done.points), first, None):
        for to in others:
            yield Plan(order, (*switches, Switch(at, to)))
            if can_kill:
                yield Plan(order, (*switches, Switch(at, to, kill=True)))
