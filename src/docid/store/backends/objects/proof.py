"""What a process learns about a bucket before its first write, and how much it sends at once; no I/O of its own."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from docid.errors import StoreUnavailable, copy_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Proof:
    """Whether a bucket is safe to write to. It is checked once; threads that come during the check share its result."""

    def __init__(self) -> None:
        self._is_safe = False
        self._failure: StoreUnavailable | None = None
        self._failed_at = -math.inf
        self._lock = threading.RLock()  # a signal handler may write, too, while its own thread checks

    def require(self, check: Callable[[], StoreUnavailable | None]) -> None:
        """Raise an error unless the bucket is safe.

        Args:
            check: returns the error for an unsafe bucket, which then stays unsafe; raises `StoreUnavailable` if it
                could not check, and the next call tries again.
        """
        began = time.monotonic()
        if self._is_safe:
            return
        with self._lock:
            # A failure counts for the threads that waited for it; later ones try again, unless the bucket is unsafe.
            if not self._is_safe and self._failed_at < began:
                try:
                    self._failure, self._failed_at = check(), math.inf
                except StoreUnavailable as error:
                    self._failure, self._failed_at = error, time.monotonic()
                self._is_safe = self._failure is None
            failure = None if self._failure is None else copy_error(self._failure)
        if failure is not None:
            raise failure


class Budget:
    """Limits how many bytes several threads send at once; a larger amount waits until it can go alone."""

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._changed = threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes may be sent, and hold them during the `with` block."""
        size = min(size, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()
