"""The bounds a run keeps to, whatever the table's size: bytes in memory, open files, rows a call.

Resident memory stays under 700 MB: about 200 MB of libraries; the batches in flight, each in two forms for a moment;
what is held; the shards' page caches; and the allocator's slack.
"""

from __future__ import annotations

import resource

READ_TASK_BYTES = 48 << 20
"""What the rows of one read take, weighed before it: more is read in parts. A row that alone is more is read alone."""

READ_TASK_ROWS = 100_000
"""A read gathers whole windows up to this many rows: connectorx leaves three idle threads for 30 s after each call."""

READ_TASK_LEDGER_LINES = 200_000
"""… and up to this many windows × shards, each of which becomes a ledger line."""

IN_FLIGHT_BYTES = 3 * READ_TASK_BYTES
"""A read waits until it and all batches that are read and not yet written take no more than this, or it is alone."""

ROWS_PER_SHARD = 1_000
"""With many shards several batches are held, so that a shard's share of them is worth opening its file …"""

HELD_BYTES = 96 << 20
"""… but never more than this, of all shards together."""

CACHE_BYTES = 64 << 20
"""The page caches of all open shards together."""

MIN_CACHE_BYTES = 64 << 10
MAX_CACHE_BYTES = 2 << 20
"""SQLite's own default; index builds are slower with more, because the sorter's runs then leave the CPU's cache."""

INDEXED_CACHE_BYTES = 128 << 20
"""The page caches of shards whose indexes are kept up: few are open at once."""

TRANSACTION_ROWS = 40_000
"""A shard commits when this many rows are waiting in its transaction …"""

TRANSACTION_S = 10.0
"""… or when the first of them has waited this long."""

INDEXED_AT_ONCE_ROWS = 100_000
"""A shard of up to this many rows gets all its indexes in one transaction, which spares it most of its fsyncs."""

REINDEX_GROWTH = 0.1
"""Shards that grow by more than this share of their rows are loaded without indexes, which are then built anew.

Measured on a million rows with three indexes: at 5 % keeping them up is faster (1.8 s against 2.2 s), at 10 % it is the
same (2.2 s), at 20 % slower (3.3 s against 2.8 s), at 40 % much slower (7.0 s against 4.0 s).
"""

LARGE_PAGE_BYTES = 16_384
SMALL_PAGE_BYTES = 4_096
FEW_SHARDS = 64

_FILES_PER_SHARD = 3
_OTHER_FILES = 100


def max_open_shards() -> int:
    """How many shards may be open at once: a shard needs its file, its journal or -wal, and at times a directory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 4096 if soft == resource.RLIM_INFINITY else min(soft, 4096)
    return max(8, (limit - _OTHER_FILES) // _FILES_PER_SHARD)


def page_bytes(shards: int) -> int:
    """A new shard's page size: large pages load a fifth faster, small ones cost many shards less memory and disk."""
    return LARGE_PAGE_BYTES if shards <= FEW_SHARDS else SMALL_PAGE_BYTES


def cache_kib(open_shards: int, *, indexed: bool = False) -> int:
    """One shard's page cache, in KiB, when so many share the budget."""
    if indexed:
        return (INDEXED_CACHE_BYTES // open_shards) >> 10
    share = CACHE_BYTES // max(1, open_shards)
    return min(MAX_CACHE_BYTES, max(MIN_CACHE_BYTES, share)) >> 10
