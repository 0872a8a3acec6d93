"""The limits of a run, the same for every size of table: bytes in memory, open files, rows in a read.

Resident memory stays under 700 MB: about 200 MB of libraries; the read tasks in flight, each in two forms for a moment;
the rows held for more of their shard; the shards' page caches; and what the allocator keeps.
"""

from __future__ import annotations

import resource

READ_TASK_BYTES = 48 << 20
"""The estimated bytes of one read. More rows than that are read in parts; a larger row is read alone."""

READ_TASK_ROWS = 108_000
"""A read task has whole windows, up to this many rows (three windows of the default 6 × 6,000): connectorx leaves three
threads for 30 s after each call."""

READ_TASK_LEDGER_LINES = 200_000
"""… and up to this many windows × shards, each of which becomes a ledger line."""

IN_FLIGHT_BYTES = 3 * READ_TASK_BYTES
"""A read begins when its bytes and those read but not yet written fit into this, or when there are none of these."""

LARGE_ROW_BYTES = 1 << 20
LARGE_ROW_COPIES = 7
"""A row above that size counts as this many: while it is read, it is in memory that many times."""

RETURNED_BUFFER_BYTES = 8 << 20
"""Freed buffers of at least this size go back to the system at once."""

READ_COLUMNS = 500
"""A query has up to this many result columns; wider tables are read in column groups. SQLite allows 2,000, but
connectorx allocates 512 KiB for each result column of each partition, however few rows there are."""

READ_BUFFERS = 1_000
"""All queries of a read together have up to this many result columns, or only one partition."""

WIDE_READ_BUFFER_BYTES = 256 << 10
"""While a table is read in column groups, such buffers go back to the system, too."""

ROWS_PER_SHARD = 1_000
"""With many shards, a writer holds the rows of several read tasks until each shard has about this many to write …"""

HELD_BYTES = 96 << 20
"""… but no more bytes than this, of all shards together."""

CACHE_BYTES = 64 << 20
"""The page caches of all open shards together."""

MIN_CACHE_BYTES = 64 << 10
MAX_CACHE_BYTES = 2 << 20
"""SQLite's own default; index builds are slower with more, because the sorter's runs then leave the CPU's cache."""

INDEXED_CACHE_BYTES = 128 << 20
"""The page caches while rows go into shards that have indexes: few shards are then open at once."""

TRANSACTION_ROWS = 40_000
"""A shard commits when this many rows are waiting in its transaction …"""

TRANSACTION_S = 10.0
"""… or when the first of them has waited this long."""

INDEXED_AT_ONCE_ROWS = 100_000
"""A shard of up to this many rows gets all its indexes in one transaction, which needs far fewer fsyncs."""

REINDEX_GROWTH = 0.1
"""Shards that grow by more than this share lose their indexes during the load and get them again after it.

Measured on a million rows with three indexes, keeping the indexes against building them again: 1.8 s against 2.2 s at
5 % growth, 2.2 s against 2.2 s at 10 %, 3.3 s against 2.8 s at 20 %, 7.0 s against 4.0 s at 40 %.
"""

SERVING_BUSY_TIMEOUT_MS = 60_000
"""Readers of a finished shard keep no writer waiting, but another program's checkpoint does while it waits for them."""

WAL_BYTES = 64 << 20
"""A -wal that has grown while a reader held a transaction shrinks to this size after its checkpoint."""

LARGE_PAGE_BYTES = 16_384
SMALL_PAGE_BYTES = 4_096
FEW_SHARDS = 64

_FILES_PER_SHARD = 3
_OTHER_FILES = 100


def max_open_shards() -> int:
    """How many shards may be open at once: each needs its file, its journal or -wal, and sometimes a directory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 4096 if soft == resource.RLIM_INFINITY else min(soft, 4096)
    return max(8, (limit - _OTHER_FILES) // _FILES_PER_SHARD)


def page_bytes(shards: int) -> int:
    """A new shard's page size: large pages load 20 % faster; small ones save memory and disk for many shards."""
    return LARGE_PAGE_BYTES if shards <= FEW_SHARDS else SMALL_PAGE_BYTES


def cache_kib(open_shards: int, *, indexed: bool = False) -> int:
    """One shard's page cache in KiB, when this many shards share the budget."""
    if indexed:
        return (INDEXED_CACHE_BYTES // open_shards) >> 10
    share = CACHE_BYTES // max(1, open_shards)
    return min(MAX_CACHE_BYTES, max(MIN_CACHE_BYTES, share)) >> 10
