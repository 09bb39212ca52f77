"""`aensure` and `aensure_many`: the async drivers of `docid.store.ensure` and `docid.store.many`.

No I/O of the store runs on the event loop. `make` runs there if it is a coroutine function, else in a thread.
"""

from __future__ import annotations

import asyncio
import inspect
from contextvars import copy_context
from functools import partial
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from docid.store.ensure import is_coroutine_function
from docid.store.ensured import Ensured, FoundT, RowT
from docid.store.many import Run
from docid.store.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from docid.store.ensure import Attempt, Options

R = TypeVar("R")


async def aensure(begin: Callable[[], Attempt], threads: Threads, options: Options) -> Ensured[Any, Any]:
    """Take a row all the way, with the I/O of the store in threads. `begin` makes the attempt, in a thread, too."""
    context = copy_context()
    calls_back = callable(options.prompt) or callable(options.metadata) or options.parse is not None

    def submit(function: Callable[..., R], *arguments: Any) -> asyncio.Future[R]:
        return asyncio.wrap_future(threads.submit(partial(context.copy().run, function, *arguments)))

    def submit_callback(function: Callable[..., R], *arguments: Any) -> asyncio.Future[R]:
        """Take a step that may call functions of the caller: they may wait for documents that need the threads."""
        if not calls_back:
            return submit(function, *arguments)
        return asyncio.wrap_future(Threads(1).submit(partial(context.copy().run, function, *arguments)))

    row = await submit(begin)
    if (done := await submit_callback(row.begin)) is not None:
        return done
    try:
        if (holder := await _finish(submit(row.take_claim))) is not None:
            if row.options.claim == "skip":
                return row.skip()
            for delay in row.claiming.delays(holder):  # pragma: no branch  - it ends by an exception
                await asyncio.sleep(delay)
                if await _finish(submit(row.take_claim)) is None:
                    break
        step = await submit_callback(row.go_on)
        if isinstance(step, Ensured):
            return step
        made = await _call(row, step)
        return await _finish(submit_callback(row.take_result, made))
    finally:
        await _finish(submit(row.release))


async def _call(row: Attempt, step: tuple[Any, ...]) -> Any:
    """Call `make`: on the event loop if it is a coroutine function, else in a thread of its own."""
    if is_coroutine_function(row.make):
        with row.holding():
            return await row.make(*step)
    context = copy_context()
    future = asyncio.wrap_future(Threads(1).submit(context.run, row.call, *step))
    made = await _finish(future, row)
    if not inspect.isawaitable(made):
        return made
    with row.holding():
        return await made


async def _finish(future: asyncio.Future[R], row: Attempt | None = None) -> R:
    """Wait for a future to its end. If this task is cancelled in the meantime, raise that after the end.

    With `row`, the future is a call of `make` in a thread: a cancelled task stores its reply first.
    """
    cancelled = await _wait(future)
    if cancelled is None:
        return future.result()
    failure = future.exception()
    if row is not None and failure is None and not inspect.isawaitable(future.result()):
        storing = asyncio.wrap_future(Threads(1).submit(row.take_result, future.result()))
        await _wait(storing)
        failure = storing.exception()
    for name in ("reply", "rescued"):  # of a reply that could not be stored
        if hasattr(failure, name):
            setattr(cancelled, name, getattr(failure, name))
    raise cancelled from failure


async def _wait(future: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait for a future to its end, however often this task is cancelled; return the last cancellation."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as interrupt:
            cancelled = interrupt
    return cancelled


class AsyncManyRun(Generic[RowT, FoundT]):
    """The results of `DocsStore.aensure_many`, in the order in which they are stored.

    Iterate over it once, with `async for`, on one event loop. Use it in an `async with` statement: when the block ends,
    no new call starts, and the block waits until the calls under way are stored. If the task is cancelled, also by
    `asyncio.timeout`, the calls under way are cancelled; replies that they have returned are stored first.

    Example:
        >>> import asyncio
        >>> from docid import DocsStore, DraftTask
        >>> async def make(row):
        ...     await asyncio.sleep(0)  # await the answer of a model here
        ...     return row.task_id.upper()
        >>> async def main():
        ...     rows = [DraftTask(task_id=task_id, doc_id=task_id) for task_id in ("a", "b")]
        ...     async with DocsStore("memory://").aensure_many(rows, make) as run:
        ...         print(sorted([done.unwrap().raw_text async for done in run]))
        >>> asyncio.run(main())
        ['A', 'B']
    """

    if not TYPE_CHECKING:  # pragma: no branch  - always true at run time
        __class_getitem__ = classmethod(GenericAlias)  # as for `Ensured`

    def __init__(self, arguments: tuple[Any, ...], concurrency: int, progress: Any, total: int | None) -> None:
        self._calls = _Calls(arguments[2], concurrency)
        self._run = Run(*arguments, call=self._calls.start, notify=self._calls.wake)
        self._run.runs_in_threads = not self._calls.is_coroutine
        self._progress, self._done, self._total = progress, 0, total

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Ensured[RowT, Any]:
        """Return the result of the next row that is stored. Raises as `ManyRun.__next__`, and StopAsyncIteration."""
        try:
            self._calls.bind()
            self._run.start()
            while (result := self._run.take(wait=False)) is None:
                await self._calls.wait()
            self._done += 1
            self._progress.show(self._done, self._total)
        except StopIteration:
            self._progress.close()
            raise StopAsyncIteration from None
        except asyncio.CancelledError:
            await self._cancel()
            raise
        except BaseException:
            self._run.stop()
            self._progress.close()
            raise
        return result

    async def aclose(self) -> None:
        """Start no new call, and wait until the calls under way are stored.

        Raises:
            asyncio.CancelledError: this task was cancelled; the calls under way are cancelled, and replies stored.
        """
        self._run.stop()
        self._progress.close()
        try:
            while not self._run.is_idle():
                await self._calls.wait()
        except asyncio.CancelledError:
            await self._cancel()
            raise

    async def _cancel(self) -> None:
        """Cancel the calls under way, and wait until the replies that they have returned are stored."""
        self._run.stop()
        self._progress.close()
        self._calls.cancel()
        while not self._run.is_idle():
            # It was cancelled already; what remains takes as long as a write, or as a call in a thread.
            try:
                await self._calls.wait()
            except asyncio.CancelledError:
                continue

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            await self._cancel()
        else:
            await self.aclose()

    def __del__(self) -> None:
        self._run.stop_unseen()


class _Calls:
    """The calls of an async run, as tasks of its event loop or in threads.

    The run does not refer to its results, so that it stops when they are dropped.
    """

    def __init__(self, make: Callable[..., Any], concurrency: int) -> None:
        self.is_coroutine = is_coroutine_function(make)
        self._threads = Threads(concurrency)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()
        self._is_woken = False  # `wake` is on its way to the event loop
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_cancelled = False

    def bind(self) -> None:
        """Note the event loop of the first use."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("aensure_many: this run belongs to another event loop; iterate over it where it began")

    async def wait(self) -> None:
        """Wait until something has changed since the last wait."""
        self.bind()
        await self._event.wait()
        self._event.clear()

    def wake(self) -> None:
        """End a wait; called in any thread."""
        if not self._is_woken and self._loop is not None:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._set)
            except RuntimeError:  # the loop is closed, so no task waits
                return

    def _set(self) -> None:
        self._is_woken = False
        self._event.set()

    def start(self, run: Run, row: Attempt, step: tuple[Any, ...]) -> None:
        """Start a call; called in a thread of the run."""
        if not self.is_coroutine:
            self._threads.start(run.context.copy().run, self._call, run, row, step)
            return
        assert self._loop is not None  # noqa: S101 - rows are pulled after the first `__anext__`
        try:
            self._loop.call_soon_threadsafe(self._spawn, run, row, step)
        except RuntimeError:  # the loop is closed
            run.stop()
            run.drop(row)

    def _call(self, run: Run, row: Attempt, step: tuple[Any, ...]) -> None:
        """Call a sync `make` in a thread; if it returns an awaitable, await that on the event loop."""
        try:
            made = row.call(*step)
            if inspect.isawaitable(made) and self._loop is not None:
                self._loop.call_soon_threadsafe(self._spawn, run, row, (made,))
                return
        except BaseException as error:  # noqa: BLE001 - of this row
            run.take_error(row, error)
        else:
            run.take_reply(row, made)

    def _spawn(self, run: Run, row: Attempt, step: tuple[Any, ...]) -> None:
        if self._is_cancelled or self._loop is None:
            run.drop(row)
            return
        context = run.context.copy()
        context.run(row.hold)
        coroutine = _await(row.make if self.is_coroutine else None, step)
        try:
            task = self._loop.create_task(coroutine, context=context)
        except BaseException as error:  # noqa: BLE001 - of a task factory
            coroutine.close()
            run.take_error(row, error)
            return
        self._tasks.add(task)
        task.add_done_callback(partial(self._take, run, row))

    def _take(self, run: Run, row: Attempt, task: asyncio.Task[object]) -> None:
        """Take the result of a call. A task that is cancelled before it begins has one, too."""
        self._tasks.discard(task)
        if task.cancelled():
            if self._is_cancelled or run.is_stopped:
                run.drop(row)
            else:  # not the run, but the call itself
                run.take_error(row, asyncio.CancelledError("the call was cancelled"))
        elif (error := task.exception()) is not None:
            run.take_error(row, error)
        else:
            run.take_reply(row, task.result())

    def cancel(self) -> None:
        """Cancel the calls under way."""
        self._is_cancelled = True
        for task in list(self._tasks):
            task.cancel()


async def _await(make: Callable[..., Awaitable[object]] | None, step: tuple[Any, ...]) -> object:
    """Call and await `make`, or await what it has returned already."""
    return await (step[0] if make is None else make(*step))
