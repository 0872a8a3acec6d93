"""Old windows joined: ledgers and manifest stay small when runs follow each other for years.

Each shard joins its lines in one transaction of its own. After a kill some shards have joined lines and others have
not: whoever compares ledgers compares ranges (`Ledger.rows_of`), and the next run joins the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from etl.core.errors import EtlError
from etl.runtime import limits, log
from etl.shards import ledger, ledger_arrays
from etl.shards.checkpoint import Checkpoint, Each
from etl.shards.ledger_arrays import Ledger
from etl.shards.manifest import Manifest
from etl.shards.shard import Shard

MOST_LINES = 8_000
"""A run that finds more lines in a ledger joins them …"""
JOINED_LINES = 4_000
"""… to about this many, of similar size, so that joining is due again only after thousands of runs …"""
NEWEST_LINES = 100
"""… and leaves so many of the highest rowids as they are: the report shows recent runs, and a repair stays small."""


def is_due(found: Checkpoint, manifest_lines: int) -> bool:
    """Whether there are too many lines, or some have been joined and others have not."""
    lines = [each.lines for each in found.found if each]
    if not found.done or found.backlog.partial or found.backlog.lost or len(lines) < len(found.found):
        return False
    return max(lines) > MOST_LINES or len({*lines, manifest_lines}) > 1


def compact(shards: Sequence[Shard], manifest: Manifest, each: Each) -> None:
    """Gives every shard the same lines, few enough, and the manifest likewise. All ledgers have the same coverage."""
    windows = _common(shards)
    if len(windows.first) > MOST_LINES:
        windows = windows.joined(most=JOINED_LINES, newest=NEWEST_LINES)
    fewer = each(lambda shard: _join(shard, windows), shards)
    manifest.join(windows)
    log.event("joined", windows=len(windows.first), fewer=max(fewer))


def _common(shards: Sequence[Shard]) -> Ledger:
    """The finest windows that every ledger has, with the rows of all shards."""
    windows = shards[0].ledger()
    for shard in shards[1:]:
        windows = windows.common(shard.ledger())
    return windows


def _join(shard: Shard, windows: Ledger) -> int:
    """Joins the lines of a shard's ledger to these windows, in one transaction; how many lines are fewer.

    Raises EtlError where the ledger would then not have the same rowids and rows.
    """
    with shard.connect(cache_kib=limits.cache_kib(1)) as connection:
        lines = ledger_arrays.read(connection)
        at = ledger_arrays.window_of(windows.first, windows.last, lines.first)
        count = np.bincount(at[at >= 0], minlength=len(windows.first))
        several = (count > 1) & (lines.rows_between(windows.first, windows.last) >= 0)
        if not several.any():
            return 0
        joined = lines.first[several[at] & (at >= 0)]
        starts = windows.first[several]
        before = ledger.coverage(connection)
        shard.begin(connection)
        groups = pa.record_batch([starts, count[several]], names=["first_rowid", "lines"])
        connection.executemany(ledger.EXTEND_LINE, groups)
        others = pa.record_batch([np.setdiff1d(joined, starts)], names=["first_rowid"])
        connection.executemany(ledger.DELETE_LINE, others)
        if ledger.coverage(connection) != before:
            raise EtlError(
                f"{shard.path}: expected the same rowids and rows in joined lines of the ledger, found others; they "
                "were not joined; run python -m etl.verify"
            )
        left = ledger.count(connection)
        connection.execute("COMMIT")
        return len(lines.first) - left
