"""The windows that a verification compares, in blocks, and what it found in each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from etl.core import ranges
from etl.core.model import RowidRange
from etl.shards.comparison import BLOCK_BYTES
from etl.shards.ledger_arrays import Numbers, window_of


class Blocks:
    """Disjoint windows in ascending order. A block is `windows_per_block` consecutive windows, of about BLOCK_BYTES."""

    def __init__(self, windows: Sequence[RowidRange], *, rows: int, row_bytes: float) -> None:
        self.windows = windows
        self._first = np.array([window.first_rowid for window in windows], np.int64)
        self._last = np.array([window.last_rowid for window in windows], np.int64)
        fitting = int(BLOCK_BYTES * len(windows) / max(1.0, rows * row_bytes))
        self.windows_per_block = max(1, min(fitting, len(windows)))
        self.count = -(-len(windows) // self.windows_per_block)

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
