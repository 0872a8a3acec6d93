"""Holds a run back: so many rows a second, and no more after a pause."""

from __future__ import annotations

import time
from collections.abc import Callable

_TICK_S = 0.2


class RateLimit:
    """Used by one thread."""

    def __init__(self, rows_per_s: int | None) -> None:
        """None means no limit."""
        self._rows_per_s = rows_per_s
        self._free_at = 0.0

    def wait(self, rows: int, go_on: Callable[[], bool]) -> None:
        """Returns when so many rows are within the limit, or as soon as `go_on` says no."""
        if self._rows_per_s is None:
            return
        self._free_at = max(self._free_at, time.monotonic()) + rows / self._rows_per_s
        while go_on() and (left_s := self._free_at - time.monotonic()) > 0:
            time.sleep(min(left_s, _TICK_S))
