"""`ensure_many`: many rows, several calls at once.

`Run` is the core that the sync and the async form share. It pulls rows in one thread, and takes each row to its call in
a few others, as `docid.store.ensure` says. Its driver makes the calls, and hands their results back. One thread writes
them, many together, so that one sync makes many documents durable.
"""

from __future__ import annotations

import atexit
import contextlib
import heapq
import itertools
import os
import sys
import threading
import time
import weakref
from collections import deque
from contextvars import copy_context
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self

from docid.core.outcomes import Outcome
from docid.errors import DurabilityUnknown, StagesConflict, TooManyFailures, copy_error, describe_error
from docid.store.claiming import Held, held
from docid.store.ensure import Attempt, Options
from docid.store.ensured import Ensured, FoundT, RowT
from docid.store.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docid.core.outcomes import WriteResult
    from docid.store.backends.claims import Holder
    from docid.store.stored import StoredDocument
    from docid.store.writing import Draft

_GROUP_SECONDS = 0.05  # how long a group of documents waits for more
_GROUP_DOCUMENTS = 100
_GROUP_BYTES = 64_000_000
_RETRY_SECONDS = 0.5
_ASIDE = 10_000  # rows that other workers have claimed, and that are looked at again


class _Mark:
    """Whether the result of a call is known, and its error."""

    __slots__ = ("error", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self.error: BaseException | None = None


class _Returned(NamedTuple):
    """What one call returned, on its way to the disk; `size` is about that of its text in bytes."""

    attempt: Attempt
    made: object
    size: int
    mark: _Mark


class _Aside(NamedTuple):
    """A row that another worker has claimed: when to look again, and its order among those of the same time."""

    due: float
    number: int
    attempt: Attempt


_runs: weakref.WeakSet[Run] = weakref.WeakSet()
"""The runs of this process."""


class Run:
    """The core of `ensure_many` and `aensure_many`.

    A row holds a slot from when it is pulled until its reply waits to be written, and room until its result is taken.
    So at most `concurrency` calls run, and at most twice as many results wait.

    Args:
        store, rows, make, options: as for `DocsStore.ensure_many`.
        concurrency: the number of slots.
        stop_after: failures in a row that stop the run; None for no limit.
        call: starts the call of an attempt, given this run, the attempt and the arguments of `make`. It must call
            `take_reply`, `take_error` or `drop` once, in any thread.
        notify: called in any thread when a result is there, or the run is over.
    """

    def __init__(  # noqa: PLR0917 - the arguments of the public functions
        self,
        store: Any,
        rows: Iterable[Any],
        make: Callable[..., Any],
        options: Options,
        concurrency: int,
        stop_after: int | None,
        *,
        call: Callable[[Run, Attempt, tuple[Any, ...]], None],
        notify: Callable[[], None],
    ) -> None:
        self._store, self._make, self._options = store, make, options
        self._rows = iter(rows)
        self._concurrency, self._stop_after = concurrency, stop_after
        self._call, self._notify = call, notify
        self.context = copy_context()
        lock = threading.RLock()
        self._room, self._work, self._ready = (threading.Condition(lock) for _ in range(3))
        self._is_remote = store.backend.io_threads > 1
        self._pool = Threads(min(concurrency, store.backend.io_threads))
        # Threads of their own: a function of the caller may wait in the pool for a claim that is given back here.
        self._releasers = Threads(1)
        self._pid = os.getpid()
        self._slots = 0  # rows between their pull and their reply
        self._pulling = 0  # of these, those that the row stream has not given yet
        self._open = 0  # rows between their pull and the taking of their result
        self._writing = 0  # replies that are being written
        self._releasing = 0  # claims of written documents that are given back
        self._replies: deque[_Returned] = deque()
        self._bytes = 0  # of these
        self._results: deque[Ensured[Any, Any]] = deque()
        self._aside: list[_Aside] = []
        self._numbers = itertools.count()
        self._failures = 0  # rows in a row
        self._marks: deque[_Mark] = deque()  # in the order in which calls ended
        self._failing = 0  # documents in a row that the store could not write
        self._is_started = self._is_exhausted = self.is_stopped = False
        self.runs_in_threads = True  # the calls
        self._error: BaseException | None = None
        _runs.add(self)

    def start(self) -> None:
        """Start to pull rows; do nothing the second time."""
        with self._room:
            if self._is_started or self.is_stopped:
                return
            self._is_started = True
        # The writer first: without it, no reply could be stored.
        for work in (self._write, self._pull):
            threading.Thread(target=self.context.copy().run, args=(work,), name="docid", daemon=True).start()

    def stop(self, error: BaseException | None = None) -> None:
        """Start no more calls. The error is raised after the remaining results."""
        if self._pid != os.getpid():  # a forked child has none of the threads
            self.is_stopped = True
            return
        with self._room:
            self.is_stopped = True
            self._error = self._error or error
            self._notify_all()

    def stop_unseen(self) -> None:
        """Stop because the caller takes no more results."""
        # When the interpreter ends, its daemon threads stand still, and one of them may have the lock.
        if sys.is_finalizing():  # pragma: no cover  - the coverage is written before
            self.is_stopped = True
        else:
            self.stop()

    def take(self, *, wait: bool) -> Ensured[Any, Any] | None:
        """Return the next result; None if there is none yet.

        Raises:
            StopIteration: the run is over. If an error stopped it, that is raised instead, once.
        """
        if self._pid != os.getpid():
            raise StopIteration
        with self._ready:
            while not self._results and not self._is_over():
                if not wait:
                    return None
                self._ready.wait()
            if self._results:
                self._open -= 1
                self._room.notify()
                return self._results.popleft()
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def wait_until_idle(self, timeout: float | None = None) -> bool:
        """Wait until no call is under way and each reply is stored; return False if the time is over first."""
        if self._pid != os.getpid():
            return True
        with self._ready:
            return self._ready.wait_for(self.is_idle, timeout)

    def wait_at_exit(self) -> None:
        """Wait until each reply is stored, and for calls that still run: those of a closed event loop do not."""
        self.stop()
        if self._pid == os.getpid():
            with self._ready:
                self._ready.wait_for(self.is_idle if self.runs_in_threads else lambda: not self._count_claims())

    def is_idle(self) -> bool:
        """Return whether no call is under way and each reply is stored."""
        if self._pid != os.getpid():  # pragma: no cover  - a forked child
            return True
        with self._ready:
            return self._slots == self._pulling and not self._count_claims()

    def _count_claims(self) -> int:
        """Return how many replies hold a claim. Needs the lock."""
        return len(self._replies) + self._writing + self._releasing

    def take_reply(self, attempt: Attempt, made: object) -> None:
        """Take what `make` returned, and free the slot. It does not block."""
        reply = _Returned(attempt, made, _measure(made), _Mark())
        with self._room:
            self._slots -= 1
            self._marks.append(reply.mark)
            self._replies.append(reply)
            self._bytes += reply.size
            self._room.notify()
            # Wake the writer only for the first reply of a group, and when it closes.
            if len(self._replies) == 1 or self._is_group_closed():
                self._work.notify()

    def take_error(self, attempt: Attempt, error: BaseException) -> None:
        """Take the exception of a call. It does not block."""
        self._pool.start(self._fail, attempt, error)

    def _is_over(self) -> bool:
        is_done = self._is_exhausted and not self._aside
        return (self.is_stopped or is_done) and self.is_idle()

    def _notify_all(self) -> None:
        for condition in (self._room, self._work, self._ready):
            condition.notify_all()
        self._notify()

    # --- Pulling rows ------------------------------------------------------------------------------------------

    def _pull(self) -> None:
        try:
            while (item := self._find_next()) is not None:
                if self._is_remote:
                    self._pool.start(self.context.copy().run, self._prepare, item)
                else:
                    self._prepare(item)
        except BaseException as error:  # noqa: BLE001 - raised after the remaining results
            self.stop(error)
        with self._room:
            self._is_exhausted = True
            self._notify_all()

    def _find_next(self) -> Attempt | tuple[Any] | None:
        """Wait for a slot, and return what to do with it: a row that was put aside, or a new one; None at the end."""
        while not isinstance(found := self._wait_for_slot(), Attempt):
            if not found:
                return None
            row = None
            try:
                row = (next(self._rows),)
            except StopIteration:
                self._is_exhausted = True
            finally:
                with self._room:
                    self._pulling -= 1
                    if row is None or self.is_stopped:
                        row = None
                        self._slots -= 1
                        self._open -= 1
                        self._notify_all()
            if row is not None:
                return row
        return found

    def _wait_for_slot(self) -> Attempt | bool:
        """Wait for a slot and take it; return the row that is due, or True to pull a new one; False at the end."""
        with self._room:
            while not self.is_stopped:
                wait = None
                if self._has_room():
                    wait = self._aside[0].due - time.monotonic() if self._aside else None
                    is_due = wait is not None and wait <= 0
                    if is_due or (not self._is_exhausted and len(self._aside) < _ASIDE):
                        self._slots += 1
                        self._open += 1
                        self._pulling += not is_due
                        return heapq.heappop(self._aside).attempt if is_due else True
                    if self._is_exhausted and not self._aside and self._slots == 0:
                        break
                # Other runs of this process may free descriptors without a notice to this one.
                self._room.wait(_RETRY_SECONDS if wait is None else min(wait, _RETRY_SECONDS))
            return False

    def _has_room(self) -> bool:
        """Return whether one more row may be pulled. Needs the lock."""
        if self._slots >= self._concurrency or self._open >= 2 * self._concurrency:
            return False
        # One claim is always allowed: the others may belong to calls that wait for this run.
        return not self._slots + self._count_claims() or self._store.backend.has_room_for_claim()

    # --- Taking a row to its call ------------------------------------------------------------------------------

    def _prepare(self, item: Attempt | tuple[Any]) -> None:
        """Take a row to its call, or to its result."""
        attempt: Attempt | None = None
        try:
            if isinstance(item, Attempt):
                attempt, done = item, None
            else:
                attempt = Attempt(self._store, item[0], self._make, self._options, keeps_run=True)
                done = attempt.begin()
            if done is None and (holder := attempt.take_claim()) is not None:
                self._put_aside(attempt, holder)
                return
            step = done or attempt.go_on()
            if isinstance(step, Ensured):
                self._finish(attempt, step)
            elif self.is_stopped:
                self._drop(attempt)
            else:
                self._call(self, attempt, step)
        except Exception as error:  # noqa: BLE001 - of this row
            if attempt is None:
                row: Any = item
                self._finish(None, _fail_row(row[0], error))
            else:
                self._fail(attempt, error)
            if isinstance(error, StagesConflict):
                self.stop(error)
        except BaseException as error:  # noqa: BLE001 - raised after the remaining results
            self.stop(error)
            self._drop(attempt)

    def _put_aside(self, attempt: Attempt, holder: Holder) -> None:
        """Look at a row again later, since another worker has claimed it."""
        if self._options.claim == "skip":
            self._finish(attempt, attempt.skip())
            return
        if attempt.delays is None:
            attempt.delays = attempt.claiming.delays(holder)
        delay = next(attempt.delays)  # it raises DocumentClaimed at its end
        with self._room:
            heapq.heappush(self._aside, _Aside(time.monotonic() + delay, next(self._numbers), attempt))
            self._slots -= 1
            self._open -= 1
            self._notify_all()

    def _drop(self, attempt: Attempt | None) -> None:
        """End a row without a result: the run was stopped before its call."""
        if attempt is not None:
            attempt.release()
        with self._room:
            self._slots -= 1
            self._open -= 1
            self._notify_all()

    def drop(self, attempt: Attempt) -> None:
        """End a row whose call was cancelled. It does not block."""
        self._pool.start(self._drop, attempt)

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        if not isinstance(error, Exception):
            self.stop(error)
        self._finish(attempt, attempt.fail(error))

    def _finish(self, attempt: Attempt | None, result: Ensured[Any, Any]) -> None:
        """Release the claim of a row that was not called, or whose call failed, and hand its result out."""
        if attempt is not None:
            attempt.release()
        with self._room:
            self._slots -= 1
            self._hand_out(result)
            self._notify_all()

    def _hand_out(self, result: Ensured[Any, Any], mark: _Mark | None = None) -> None:
        """Add a result, and count failures. Needs the lock."""
        self._results.append(result)
        if mark is None:
            mark = _Mark()
            self._marks.append(mark)
        mark.is_done, mark.error = True, result.error
        # Count in the order in which calls ended: a reply that is not stored yet may be a success.
        while self._marks and self._marks[0].is_done:
            error = self._marks.popleft().error
            self._failures = 0 if error is None else self._failures + 1
            if error is not None and self._failures == self._stop_after:
                failure = TooManyFailures(self._failures, describe_error(error))
                failure.__cause__ = error
                self.stop(failure)

    # --- Writing -----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        # A parser that waited for a document would wait for this thread.
        held.set((*held.get(), Held(self._store.backend.root, "", "")))
        while group := self._collect():
            try:
                results = self._write_group(group)
            except BaseException as error:  # noqa: BLE001 - a fault of docid; no row may hang
                results = [self._rescue(reply, copy_error(error)) for reply in group]
                self.stop(error)
            with self._room:
                self._writing = 0
                self._releasing += len(group)
                for reply, result in zip(group, results, strict=True):
                    self._hand_out(result, reply.mark)
                self._notify_all()
            # The next group need not wait for this.
            self._releasers.start(self._release, [reply.attempt for reply in group])

    def _release(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            attempt.release()
        with self._room:
            self._releasing -= len(attempts)
            self._notify_all()

    def _collect(self) -> list[_Returned]:
        """Wait for replies, and return those to write together; an empty list at the end of the run."""
        with self._work:
            while not self._replies:
                if self._is_over():
                    return []
                self._work.wait()
            end = time.monotonic() + _GROUP_SECONDS
            while not self._is_group_closed() and (left := end - time.monotonic()) > 0:
                self._work.wait(left)
            group: list[_Returned] = []
            size = 0
            while self._replies and len(group) < _GROUP_DOCUMENTS and size < _GROUP_BYTES:
                group.append(self._replies.popleft())
                size += group[-1].size
            self._bytes -= size
            self._writing = len(group)
            return group

    def _is_group_closed(self) -> bool:
        """Return whether a group is large, or nothing more can come before it is written. Needs the lock."""
        if len(self._replies) >= _GROUP_DOCUMENTS or self._bytes >= _GROUP_BYTES:
            return True
        can_pull = self._has_room() and not self._is_exhausted and not self.is_stopped
        return self._slots == self._pulling and not can_pull

    def _write_group(self, group: list[_Returned]) -> list[Ensured[Any, Any]]:
        """Write the documents of a group, and return the results of their rows."""
        results: dict[int, Ensured[Any, Any]] = {}
        drafts: dict[int, Draft] = {}
        for number, reply in enumerate(group):
            try:
                drafts[number] = reply.attempt.build(reply.made)
            except BaseException as error:  # noqa: BLE001 - of this row
                results[number] = self._rescue(reply, error)
        answers: list[tuple[WriteResult, StoredDocument] | BaseException]
        try:
            answers = self._store._writer.put_made_many(  # noqa: SLF001 - the same class, in two modules
                list(drafts.values()), require_parent=self._options.require_parent
            )
        except BaseException as error:  # noqa: BLE001 - a fault in a backend; no reply may be lost
            answers = [copy_error(error) for _ in drafts]
        for (number, draft), answer in zip(drafts.items(), answers, strict=True):
            reply = group[number]
            try:
                if isinstance(answer, BaseException):
                    raise answer  # noqa: TRY301 - one place rescues
                results[number] = reply.attempt.conclude(draft, answer)
            except BaseException as error:  # noqa: BLE001 - of this row
                results[number] = self._rescue(reply, error)
        failing = [each for each in answers if isinstance(each, (OSError, DurabilityUnknown, StagesConflict))]
        self._failing = self._failing + len(failing) if len(failing) == len(answers) else 0
        if failing and self._failing > 1:  # a fault of the whole store: one document may be too large for it
            self.stop(failing[0])
        return [results[number] for number in range(len(group))]

    def _rescue(self, reply: _Returned, error: BaseException) -> Ensured[Any, Any]:
        reply.attempt.rescue(reply.made, error)
        if not isinstance(error, Exception):
            self.stop(error)
        return reply.attempt.fail(error)


def _measure(made: object) -> int:
    """Return about the size of a reply in bytes."""
    text = made
    with contextlib.suppress(Exception):  # of a class of the caller
        text = getattr(made, "raw_text", made)
    return len(text) if isinstance(text, str) else 0


def _fail_row(row: Any, error: Exception) -> Ensured[Any, Any]:
    """Return the result of a row that is not even a reserved row."""
    return Ensured(row, Outcome.FAILED, None, "", error=error)


class ManyRun(Generic[RowT, FoundT]):
    """The results of `DocsStore.ensure_many`, in the order in which they are stored.

    Iterate over it once. Use it in a `with` statement: when the block ends, also by an exception or Ctrl-C, no new call
    starts, and the block waits until the calls under way are stored. A second Ctrl-C ends the wait.

    Example:
        >>> from docid import DocsStore, DraftTask
        >>> rows = [DraftTask(task_id=task_id, doc_id=task_id) for task_id in ("a", "b")]
        >>> with DocsStore("memory://").ensure_many(rows, lambda row: row.task_id.upper()) as run:
        ...     print(sorted(done.unwrap().raw_text for done in run))
        ['A', 'B']
    """

    if not TYPE_CHECKING:  # pragma: no branch  - always true at run time
        __class_getitem__ = classmethod(GenericAlias)  # as for `Ensured`

    def __init__(self, run: Run, progress: Any, total: int | None) -> None:
        self._run = run
        self._progress, self._done, self._total = progress, 0, total

    @classmethod
    def of(cls, arguments: tuple[Any, ...], concurrency: int, progress: Any, total: int | None) -> Self:
        """Return a run with threads for its calls."""
        # The run must not refer to its results: when they are dropped, it stops.
        threads = Threads(concurrency)

        def start(run: Run, attempt: Attempt, step: tuple[Any, ...]) -> None:
            threads.start(run.context.copy().run, call, run, attempt, step)

        run = Run(*arguments, call=start, notify=_do_nothing)
        return cls(run, progress, total)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Ensured[RowT, Any]:
        """Return the result of the next row that is stored.

        Raises:
            StopIteration: all rows are done.
            TooManyFailures: `stop_after` rows in a row failed.
            Exception: the row stream, the store or a callback failed.
        """
        try:
            self._run.start()
            result: Ensured[Any, Any] | None = self._run.take(wait=True)
            self._done += 1
            self._progress.show(self._done, self._total)
        except StopIteration:
            self._progress.close()
            raise
        except BaseException:
            self._run.stop()
            self._progress.close()
            raise
        assert result is not None  # noqa: S101 - it has waited
        return result

    def close(self) -> None:
        """Start no new call, and wait until the calls under way are stored.

        Raises:
            KeyboardInterrupt: Ctrl-C during the wait, after the wait; a second one ends it.
        """
        self._close(interrupts=0)

    def _close(self, interrupts: int) -> None:
        self._run.stop()
        self._progress.close()
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                self._run.wait_until_idle()
                break
            except KeyboardInterrupt as error:
                interrupt, interrupts = error, interrupts + 1
                if interrupts > 1:
                    _runs.discard(self._run)  # nor does the process wait for it at its end
                    raise
        if interrupt is not None:
            raise interrupt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close(interrupts=int(kind is not None and issubclass(kind, KeyboardInterrupt)))

    def __del__(self) -> None:
        self._run.stop_unseen()


@atexit.register
def _close_all() -> None:
    """Wait for the calls under way when the process ends, so that their replies are stored."""
    for run in list(_runs):
        run.wait_at_exit()


def call(run: Run, attempt: Attempt, step: tuple[Any, ...]) -> None:
    """Call a sync `make` in this thread, and hand its result back."""
    try:
        made = attempt.call(*step)
    except BaseException as error:  # noqa: BLE001 - of this row, or raised after the remaining results
        run.take_error(attempt, error)
    else:
        run.take_reply(attempt, made)


def _do_nothing() -> None:
    """Do nothing: the consumer waits for the condition itself."""
