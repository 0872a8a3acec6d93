"""The C library's allocator, told that this process takes and frees the same large buffers again and again."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_KEPT_BYTES = 256 << 20
_ARENAS = 2


def keep_buffers() -> None:
    """Keeps freed buffers for reuse, in few arenas; does nothing where the C library is not glibc.

    By default a large buffer is a mapping of its own: each one is then faulted in page by page, and unmapped, for every
    batch. connectorx reads each partition in a thread of its own, and each thread would take a fresh arena.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)
