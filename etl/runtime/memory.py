"""What the C library's allocator keeps of freed memory."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
"""glibc's malloc.h. Without it the threshold grows with each large buffer that is freed, up to 32 MiB."""


def return_freed_buffers(least_bytes: int) -> None:
    """Gives each freed buffer of at least so many bytes back to the system at once, where the C library is glibc."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, least_bytes)
