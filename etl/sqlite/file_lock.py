"""A lock for the files of shards, so that two copies of SQLite in this process never have them open at once.

`etl.sqlite.stdlib` has the reason. Reads through the standard library and reads through connectorx wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.sqlite import stdlib


class FileLock:
    """Many shared holders at a time (connectorx), or one exclusive holder (the standard library)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared = 0
        self._read: set[Path] = set()

    @contextmanager
    def shared(self, path: Path) -> Iterator[None]:
        """Keeps exclusive holders waiting while the block reads the file. The last one removes the traces of all."""
        with self._changed:
            self._shared += 1
            self._read.add(path)
        try:
            yield
        finally:
            with self._changed:
                self._shared -= 1
                while self._read and not self._shared:
                    stdlib.remove_traces(self._read.pop())
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Waits for the shared holders to end, and keeps others waiting while the block runs. Not reentrant."""
        with self._changed:
            self._changed.wait_for(lambda: self._shared == 0)
            yield


SHARDS = FileLock()
"""For the shards that this process reads by `etl.query`."""
