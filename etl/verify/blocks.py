"""The windows that a verification compares, in blocks, and what it found in each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy

import numpy as np

from etl.core import ranges
from etl.core.model import RowidRange
from etl.shards.comparison import BLOCK_BYTES
from etl.shards.ledger_arrays import Numbers, window_of

CHUNK_BLOCKS = 32
"""A chunk has about 1 GiB of the source: what a verification repeats at most after it was interrupted."""


def chunks(
    windows: Sequence[RowidRange], rows: Numbers, row_bytes: float, *, most_rows: float
) -> list[list[RowidRange]]:
    """Windows in groups of about CHUNK_BLOCKS blocks and at most `most_rows` rows, each ascending and in their order.

    `rows` are those of each window.
    """
    size = max(1.0, min(CHUNK_BLOCKS * BLOCK_BYTES, most_rows * row_bytes))
    groups: list[list[RowidRange]] = []
    total = size
    for window, count in zip(windows, rows.tolist(), strict=True):
        if total >= size or window < groups[-1][-1]:
            groups.append([])
            total = 0.0
        groups[-1].append(window)
        total += count * row_bytes
    return groups


class Blocks:
    """Disjoint windows in ascending order. A block is `windows_per_block` consecutive windows, of about BLOCK_BYTES."""

    def __init__(self, windows: Sequence[RowidRange], *, rows: int, row_bytes: float) -> None:
        self.windows = windows
        self._first = np.array([window.first_rowid for window in windows], np.int64)
        self._last = np.array([window.last_rowid for window in windows], np.int64)
        fitting = int(BLOCK_BYTES * len(windows) / max(1.0, rows * row_bytes))
        self.windows_per_block = max(1, min(fitting, len(windows)))
        self.count = -(-len(windows) // self.windows_per_block)

    def first(self, count: int) -> Blocks:
        """So many of the blocks."""
        blocks = copy(self)
        blocks.count = min(count, self.count)
        blocks.windows = self.windows[: blocks.count * self.windows_per_block]
        return blocks

    def window_of(self, rowids: Numbers) -> Numbers:
        """The position of each rowid's window, −1 where no window holds it; shape (rows,)."""
        return window_of(self._first, self._last, rowids)

    def positions(self, block: int) -> slice:
        """The positions of a block's windows."""
        return slice(block * self.windows_per_block, (block + 1) * self.windows_per_block)

    def pieces(self, block: int) -> ranges.Coverage:
        """The rowids of a block."""
        return ranges.union(self.windows[self.positions(block)])

    def rows_by_window(self, block: int, rowids: Iterable[Numbers]) -> Numbers:
        """How many of these rowids, all of the block, are in each of its windows; shape (windows,)."""
        start, stop, _ = self.positions(block).indices(len(self.windows))
        counts = np.zeros(stop - start, np.int64)
        for some in rowids:
            counts += np.bincount(self.window_of(some) - start, minlength=len(counts))
        return counts

    @property
    def coverage(self) -> ranges.Coverage:
        """The rowids of all windows."""
        return ranges.union(self.windows)
