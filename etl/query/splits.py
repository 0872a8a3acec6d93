"""In what pieces a shard is read: ranges of its windows, few and large where a filter leaves few rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import polars as pl

from etl.core.model import MAX_ROWID, MIN_ROWID, LedgerLine, RowidRange

_MOST_CUTS = 16
"""So that rows which come all at once after a long nothing still fit into memory."""


def cut(lines: Sequence[LedgerLine], most_rows: int) -> Iterator[RowidRange]:
    """All rowids there are, in ranges of consecutive windows with at most so many rows, or one window."""
    first, rows = MIN_ROWID, 0
    for line in lines:
        if rows and rows + line.rows > most_rows:
            yield RowidRange(first, line.window.first_rowid - 1)
            first, rows = line.window.first_rowid, 0
        rows += line.rows
    yield RowidRange(first, MAX_ROWID)


class Stride:
    """How many cuts one read takes: twice as many after each that brought few rows, half as many after another."""

    def __init__(self, *, few_rows: int) -> None:
        self._few_rows = few_rows
        """0 where nothing is filtered: then a read takes one cut."""
        self._cuts = 1

    def take(self, cuts: deque[RowidRange]) -> RowidRange:
        """Takes the next piece off the cuts: neighbours only, for what lies between two cuts is not to be read."""
        piece = cuts.popleft()
        for _ in range(self._cuts - 1):
            if not cuts or cuts[0].first_rowid != piece.last_rowid + 1:
                break
            piece = RowidRange(piece.first_rowid, cuts.popleft().last_rowid)
        return piece

    def seen(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Learns from what a read brought, and gives it on."""
        is_few = frame.height < self._few_rows
        self._cuts = min(self._cuts * 2, _MOST_CUTS) if is_few else max(1, self._cuts // 2)
        return frame
