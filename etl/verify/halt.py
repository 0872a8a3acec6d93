"""Why a verification ends, or gives way, at the end of a block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum


class Stopped(Exception):
    """The command was stopped before the work was done."""


class Cause(Enum):
    """What is waited for."""

    STOP = "stop"
    """A signal, or --stop-after."""
    RUN = "run"
    """A run wants the shards."""
    BUDGET = "budget"
    """The time of --budget is up."""


class Halt:
    """Asked between two blocks, by any thread."""

    def __init__(
        self, stop: threading.Event, budget_s: float | None = None, is_wanted: Callable[[], bool] = lambda: False
    ) -> None:
        """`is_wanted` says whether a run waits for the shards."""
        self.stop = stop
        self._ends_at = None if budget_s is None else time.monotonic() + budget_s
        self._is_wanted = is_wanted

    @property
    def cause(self) -> Cause | None:
        """The first that applies; None to go on."""
        if self.stop.is_set():
            return Cause.STOP
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            return Cause.BUDGET
        return Cause.RUN if self._is_wanted() else None

    def check_stop(self) -> None:
        """Raises Stopped after a signal, or when --stop-after is up."""
        if self.stop.is_set():
            raise Stopped

    def goes_on(self) -> bool:
        return self.cause is None
