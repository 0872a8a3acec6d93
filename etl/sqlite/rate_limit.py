"""A limit on calls in a stretch of time, over all threads."""

from __future__ import annotations

import threading
import time
from collections import deque


class Throttle:
    """Lets `calls` calls begin in any `seconds` seconds; those beyond wait."""

    def __init__(self, *, calls: int, seconds: float) -> None:
        self._begun: deque[float] = deque(maxlen=calls)
        self._seconds = seconds
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Returns when the next call may begin."""
        with self._lock:
            if len(self._begun) == self._begun.maxlen:
                time.sleep(max(0.0, self._begun[0] + self._seconds - time.monotonic()))
            self._begun.append(time.monotonic())
