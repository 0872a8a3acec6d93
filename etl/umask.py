"""The process's file mode mask while a command is at work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def private_files() -> Iterator[None]:
    """Every file made meanwhile is its owner's alone: mode 0600, directories 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
