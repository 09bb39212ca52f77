"""Daemon threads for requests, so that Ctrl-C and signal handlers interrupt a wait; no I/O of their own.

obstore ignores signals until a request ends, which can take minutes. Python runs signal handlers in the main thread
only, so the main thread waits for another thread that sends the request. Those of `concurrent.futures` do not fit:
the interpreter joins them when it ends, so a process would still wait for a silent service.
"""

from __future__ import annotations

import math
import threading
import weakref
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from docid.store.backends.claims import ForkAware

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

_local = threading.local()  # `is_worker` is set in the threads of `Threads`


class Threads(ForkAware):
    """Up to `most` daemon threads. They end when this object is deleted, but not because the process ends."""

    def __init__(self, most: float) -> None:
        self._most = most
        self.reset()
        super().__init__()

    def reset(self) -> None:
        """Begin without threads, as a forked child does."""
        self._count = 0
        self._lock = threading.RLock()  # a signal handler may use the store, too
        # The threads must not refer to this object: it would never be deleted, and they would never end.
        self._tasks: SimpleQueue[Any] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        # Functions registered with `atexit` may still send requests.
        weakref.finalize(self, self._tasks.put, None).atexit = False

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Call a function in a thread; return the future of its result."""
        future: Future[R] = Future()
        self.start(_run, future, function, arguments)
        return future

    def start(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function in a thread; it must not raise."""
        self._tasks.put((function, arguments))
        can_start = True
        with self._lock:
            if not self._idle.acquire(blocking=False) and self._count < self._most:
                try:
                    threading.Thread(target=_work, args=(self._tasks, self._idle), name="docid", daemon=True).start()
                    self._count += 1
                except RuntimeError:  # since Python 3.12, no thread can start in a function registered with `atexit`
                    can_start = self._count > 0
        if not can_start:
            function, arguments = self._tasks.get()
            function(*arguments)


def is_worker() -> bool:
    """Return whether the current thread belongs to `Threads`."""
    return getattr(_local, "is_worker", False)


def call_interruptibly(function: Callable[[], R]) -> R:
    """Call a function; in the main thread, let signal handlers raise their exceptions while it runs.

    If one does, the function continues in its thread, and its result is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    return _of_main.submit(function).result()


def _work(tasks: SimpleQueue[Any], idle: threading.Semaphore) -> None:
    _local.is_worker = True
    while (task := tasks.get()) is not None:
        function, arguments = task
        function(*arguments)
        del task, function, arguments  # free the result while this thread is idle
        idle.release()
    tasks.put(None)  # for the next thread


def _run(future: Future[R], function: Callable[..., R], arguments: tuple[Any, ...]) -> None:
    """Call a function and set the result of its future, unless it was cancelled."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - `result` raises it in the thread that waits
            future.set_exception(error)


_of_main = Threads(math.inf)  # one is in use; the others wait for responses to interrupted calls
