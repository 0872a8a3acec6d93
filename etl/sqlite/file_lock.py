"""A lock for the files of shards, so that two copies of SQLite in this process never have them open at once.

POSIX file locks belong to the process: when one copy of SQLite closes a file, it drops the locks that another copy
holds on it. So a read through the standard library waits for reads through connectorx to end, and they wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class FileLock:
    """Many shared holders at a time (connectorx), or one exclusive holder (the standard library)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Keeps exclusive holders waiting while the block runs."""
        with self._changed:
            self._shared += 1
        try:
            yield
        finally:
            with self._changed:
                self._shared -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Waits for the shared holders to end, and keeps others waiting while the block runs. Not reentrant."""
        with self._changed:
            self._changed.wait_for(lambda: self._shared == 0)
            yield
