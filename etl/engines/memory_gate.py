"""Lets a read begin only when there is memory for it."""

from __future__ import annotations

import threading

from etl.core.model import ReadTask
from etl.runtime import limits


class MemoryGate:
    """Counts the bytes of read tasks from before they are read until every writer has taken them."""

    def __init__(self, *, writers: int) -> None:
        self._writers = writers
        self._waiting_for: dict[ReadTask, int] = {}
        """How many writers have not yet taken each task."""
        self._changed = threading.Condition()
        self._is_open = False

    def admit(self, task: ReadTask) -> None:
        """Returns when the task fits in with the others, or is the only one."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or self._has_room(task.bytes))
            self._waiting_for[task] = self._writers

    def taken(self, task: ReadTask) -> None:
        """Is called by each writer once."""
        with self._changed:
            self._waiting_for[task] -= 1
            if not self._waiting_for[task]:
                del self._waiting_for[task]
                self._changed.notify_all()

    def open(self) -> None:
        """Nobody waits any more: a writer that failed takes nothing."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def _has_room(self, task_bytes: int) -> bool:
        others = sum(task.bytes for task in self._waiting_for)
        return not self._waiting_for or others + task_bytes <= limits.IN_FLIGHT_BYTES
