"""The windows that a verification compares, in blocks, and the counts and fingerprints that add up in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from etl.core import ranges
from etl.core.model import RowidRange
from etl.verify.digest import Words

BLOCK_ROWS = 100_000
"""A block gathers windows up to so many rows …"""
MOST_SUMS = 2_500_000
"""… and more where there would be more sums than this, one for each block and slot: they stay under 80 MB."""

Places = npt.NDArray[np.int64]


class Grid:
    """Disjoint windows in ascending order. A block is a run of `windows_per_block` of them."""

    def __init__(self, windows: Sequence[RowidRange], *, rows: int, slots: int) -> None:
        self.windows = windows
        self._first = np.array([window.first_rowid for window in windows], np.int64)
        self._last = np.array([window.last_rowid for window in windows], np.int64)
        for_rows = BLOCK_ROWS * len(windows) // max(1, rows)
        for_sums = -(-len(windows) * slots // MOST_SUMS)
        self.windows_per_block = max(1, min(for_rows, len(windows)), for_sums)
        self.blocks = -(-len(windows) // self.windows_per_block)

    def place(self, rowids: npt.NDArray[np.int64]) -> Places:
        """The window of each rowid, −1 where none holds it; shape (rows,)."""
        if not self.windows:
            return np.full(len(rowids), -1)
        window = np.searchsorted(self._last, rowids)
        inside = (window < len(self.windows)) & (rowids >= self._first[np.minimum(window, len(self.windows) - 1)])
        return np.where(inside, window, -1)

    def block(self, rowids: npt.NDArray[np.int64]) -> Places:
        """The block of each rowid, all of which some window holds."""
        return self.place(rowids) // self.windows_per_block

    def of_block(self, block: int) -> ranges.Coverage:
        """The rowids of a block."""
        start = block * self.windows_per_block
        return ranges.union(self.windows[start : start + self.windows_per_block])

    @property
    def coverage(self) -> ranges.Coverage:
        """The rowids of all windows."""
        return ranges.union(self.windows)


class Progress:
    """Rows and the sums of their fingerprints, modulo 2^64, in numbered cells."""

    def __init__(self, cells: int) -> None:
        self.rows = np.zeros(cells, np.int64)
        self.low = np.zeros(cells, np.uint64)
        self.high = np.zeros(cells, np.uint64)

    def add(self, cells: Places, low: Words, high: Words) -> None:
        """Counts each row in its cell; all three of shape (rows,)."""
        np.add.at(self.rows, cells, 1)
        np.add.at(self.low, cells, low)
        np.add.at(self.high, cells, high)

    def summed(self, groups: int) -> Progress:
        """The cells laid out as (groups, cells / groups) and summed over groups."""
        total = Progress(len(self.rows) // groups)
        total.rows[:] = self.rows.reshape(groups, -1).sum(axis=0)
        total.low[:] = self.low.reshape(groups, -1).sum(axis=0)
        total.high[:] = self.high.reshape(groups, -1).sum(axis=0)
        return total

    def every(self, step: int, start: int) -> Progress:
        """Each `step`-th cell from `start` on."""
        total = Progress(0)
        total.rows, total.low, total.high = self.rows[start::step], self.low[start::step], self.high[start::step]
        return total

    def differing(self, other: Progress) -> list[int]:
        """The cells in which the two have not the same rows."""
        differs = (self.rows != other.rows) | (self.low != other.low) | (self.high != other.high)
        return [int(cell) for cell in np.flatnonzero(differs)]


def reference(layouts: Iterable[tuple[Sequence[RowidRange], int]]) -> tuple[RowidRange, ...]:
    """The windows that the shards' ledgers speak of, each ledger given with how many shards have it.

    Ledgers that agree are one layout. Where windows of two overlap, the one that more shards have stands.
    """
    shards_with: dict[RowidRange, int] = {}
    for windows, shards in layouts:
        for window in windows:
            shards_with[window] = shards_with.get(window, 0) + shards
    chosen: list[RowidRange] = []
    for window in sorted(shards_with, key=lambda window: (window.first_rowid, -shards_with[window])):
        while chosen and chosen[-1].last_rowid >= window.first_rowid:
            if shards_with[chosen[-1]] >= shards_with[window]:
                break
            chosen.pop()
        else:
            chosen.append(window)
    return tuple(chosen)
