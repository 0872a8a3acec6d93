"""The windows that a verification compares, in blocks, and the sums of fingerprints by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from etl.core import ranges
from etl.core.model import RowidRange
from etl.shards.ledger_arrays import Numbers, window_of
from etl.verify.digest import Words

BLOCK_ROWS = 100_000
"""A block has windows of about this number of rows …"""
MOST_SUMS = 2_500_000
"""… and more where there would be more sums than this (blocks × slots), so that the sums need less than 80 MB."""


class Blocks:
    """Disjoint windows in ascending order. A block is `windows_per_block` consecutive windows."""

    def __init__(self, windows: Sequence[RowidRange], *, rows: int, slots: int) -> None:
        self.windows = windows
        self._first = np.array([window.first_rowid for window in windows], np.int64)
        self._last = np.array([window.last_rowid for window in windows], np.int64)
        for_rows = BLOCK_ROWS * len(windows) // max(1, rows)
        for_sums = -(-len(windows) * slots // MOST_SUMS)
        self.windows_per_block = max(1, min(for_rows, len(windows)), for_sums)
        self.count = -(-len(windows) // self.windows_per_block)

    def window_of(self, rowids: Numbers) -> Numbers:
        """The position of each rowid's window, −1 where no window holds it; shape (rows,)."""
        return window_of(self._first, self._last, rowids)

    def block_of(self, rowids: Numbers) -> Numbers:
        """The block of each rowid; each must be in a window."""
        return self.window_of(rowids) // self.windows_per_block

    def coverage_of(self, block: int) -> ranges.Coverage:
        """The rowids of a block."""
        start = block * self.windows_per_block
        return ranges.union(self.windows[start : start + self.windows_per_block])

    @property
    def coverage(self) -> ranges.Coverage:
        """The rowids of all windows."""
        return ranges.union(self.windows)


class Sums:
    """Counts of rows and sums of their fingerprints, modulo 2^64, by group (a number)."""

    def __init__(self, groups: int) -> None:
        self.rows = np.zeros(groups, np.int64)
        self.low = np.zeros(groups, np.uint64)
        self.high = np.zeros(groups, np.uint64)

    def add(self, groups: Numbers, low: Words, high: Words) -> None:
        """Adds each row to its group; all three have the shape (rows,)."""
        np.add.at(self.rows, groups, 1)
        np.add.at(self.low, groups, low)
        np.add.at(self.high, groups, high)

    def folded(self, parts: int) -> Sums:
        """The sums of `parts` equal parts, added."""
        total = Sums(len(self.rows) // parts)
        total.rows[:] = self.rows.reshape(parts, -1).sum(axis=0)
        total.low[:] = self.low.reshape(parts, -1).sum(axis=0)
        total.high[:] = self.high.reshape(parts, -1).sum(axis=0)
        return total

    def every(self, step: int, start: int) -> Sums:
        """Each `step`-th group, from `start` on."""
        total = Sums(0)
        total.rows, total.low, total.high = self.rows[start::step], self.low[start::step], self.high[start::step]
        return total

    def differing(self, other: Sums) -> list[int]:
        """The groups in which the two do not have the same rows."""
        differs = (self.rows != other.rows) | (self.low != other.low) | (self.high != other.high)
        return [int(group) for group in np.flatnonzero(differs)]
