"""The forms of `ensure_many` behind one interface, so that the same tests run on all of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from docid import DocsStore, Ensured


class Sync:
    """`ensure_many`, with `make` in threads."""

    name = "threads"

    def run(
        self,
        store: DocsStore,
        rows: Iterable[Any],
        make: Callable[..., Any],
        *,
        each: Callable[[Ensured[Any, Any]], object] | None = None,
        **options: Any,
    ) -> list[Ensured[Any, Any]]:
        """Run all rows in a `with` block; call `each` with every result in the loop body."""
        results = []
        with store.ensure_many(rows, make, **options) as run:
            for result in run:
                results.append(result)
                if each is not None:
                    each(result)
        return results

    def one(self, store: DocsStore, row: Any, make: Callable[..., Any], **options: Any) -> Ensured[Any, Any]:
        """Ensure one row."""
        return store.ensure(row, make, **options)


class Async(Sync):
    """`aensure_many`, with `make` as tasks of the event loop."""

    name = "asyncio"

    def run(
        self,
        store: DocsStore,
        rows: Iterable[Any],
        make: Callable[..., Any],
        *,
        each: Callable[[Ensured[Any, Any]], object] | None = None,
        **options: Any,
    ) -> list[Ensured[Any, Any]]:
        async def main() -> list[Ensured[Any, Any]]:
            results = []
            async with store.aensure_many(rows, self.adapt(make), **options) as run:
                async for result in run:
                    results.append(result)
                    if each is not None:
                        each(result)
            return results

        return asyncio.run(main())

    def one(self, store: DocsStore, row: Any, make: Callable[..., Any], **options: Any) -> Ensured[Any, Any]:
        return asyncio.run(store.aensure(row, self.adapt(make), **options))

    def adapt(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Return a coroutine function that runs `make` on the event loop; `nap` sleeps there without blocking."""

        async def amake(*arguments: Any) -> Any:
            made = make(*arguments)
            while isinstance(made, Nap):
                await asyncio.sleep(made.seconds)
                made = made.then()
            return made

        return amake


class AsyncOfSync(Async):
    """`aensure_many` with a plain function, which runs in threads."""

    name = "asyncio, make in threads"

    def adapt(self, make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: finish(make(*arguments))


class Nap:
    """A call that takes some time: `make` returns it, and the driver waits."""

    def __init__(self, seconds: float, then: Callable[[], Any]) -> None:
        self.seconds, self.then = seconds, then


def finish(made: Any) -> Any:
    """Take a nap in this thread, if it is one."""
    while isinstance(made, Nap):
        time.sleep(made.seconds)
        made = made.then()
    return made


class SyncWithNaps(Sync):
    """`ensure_many`; a nap sleeps in the thread of the call."""

    def run(self, store: DocsStore, rows: Iterable[Any], make: Callable[..., Any], **options: Any) -> Any:
        return super().run(store, rows, lambda *arguments: finish(make(*arguments)), **options)

    def one(self, store: DocsStore, row: Any, make: Callable[..., Any], **options: Any) -> Ensured[Any, Any]:
        return super().one(store, row, lambda *arguments: finish(make(*arguments)), **options)


DRIVERS = [SyncWithNaps(), Async(), AsyncOfSync()]


class Gauge:
    """Counts how many calls run at once."""

    def __init__(self) -> None:
        self.now = self.most = self.total = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        with self._lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self._lock:
            self.now -= 1
