"""Who may have the shards open in this process: one copy of SQLite at a time.

POSIX file locks belong to the process: when one copy of SQLite closes a file, it drops the locks that another copy
holds on it. So a look through the standard library waits until no read through connectorx is under way, and reads wait
for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Many reads at a time, or one look."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reads = 0

    @contextmanager
    def read(self) -> Iterator[None]:
        """Holds looks off while the block runs."""
        with self._changed:
            self._reads += 1
        try:
            yield
        finally:
            with self._changed:
                self._reads -= 1
                self._changed.notify_all()

    @contextmanager
    def look(self) -> Iterator[None]:
        """Waits for the reads under way, and holds off further ones while the block runs; no block may hold another."""
        with self._changed:
            self._changed.wait_for(lambda: self._reads == 0)
            yield
