"""The rowid ranges in which a scan reads a shard: small enough for memory, and few when a filter leaves few rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import polars as pl

from etl.core.model import MAX_ROWID, MIN_ROWID, LedgerLine, RowidRange

_MAX_MERGED = 16
"""Limits memory when a filter selects many rows after it selected few."""


def split(lines: Sequence[LedgerLine], max_rows: int) -> Iterator[RowidRange]:
    """Splits the whole rowid range: each split has consecutive windows with at most `max_rows` rows, or one window."""
    first, rows = MIN_ROWID, 0
    for line in lines:
        if rows and rows + line.rows > max_rows:
            yield RowidRange(first, line.window.first_rowid - 1)
            first, rows = line.window.first_rowid, 0
        rows += line.rows
    yield RowidRange(first, MAX_ROWID)


class SplitMerger:
    """Merges adjacent splits into one read: twice as many after a read with few rows, half as many after others."""

    def __init__(self, *, few_rows: int) -> None:
        """Without a filter, `few_rows` is 0 and each read takes one split."""
        self._few_rows = few_rows
        self._merged = 1

    def take(self, splits: deque[RowidRange]) -> RowidRange:
        """Removes the next splits and returns their range; a gap between two splits is never read."""
        rowids = splits.popleft()
        for _ in range(self._merged - 1):
            if not splits or splits[0].first_rowid != rowids.last_rowid + 1:
                break
            rowids = RowidRange(rowids.first_rowid, splits.popleft().last_rowid)
        return rowids

    def adapt(self, frame: pl.DataFrame) -> None:
        is_few = frame.height < self._few_rows
        self._merged = min(self._merged * 2, _MAX_MERGED) if is_few else max(1, self._merged // 2)
