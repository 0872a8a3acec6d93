"""All shards' ledgers together: which windows there are, and which shards have others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from etl.core import ranges
from etl.core.model import RowidRange
from etl.shards.ledger_arrays import Ledger, Numbers, window_of

Layout = tuple[bytes, bytes]
"""What two ledgers of the same windows have in common."""


class Ledgers:
    """The sum of all ledgers. Those of the same windows are kept once: thousands of shards have one layout."""

    def __init__(self) -> None:
        self._sums: dict[Layout, Ledger] = {}
        self._shards: dict[Layout, int] = {}

    def add(self, ledger: Ledger) -> None:
        layout = ledger.first.tobytes(), ledger.last.tobytes()
        if layout not in self._sums:
            self._sums[layout], self._shards[layout] = Ledger(ledger.first, ledger.last, ledger.rows.copy()), 1
        else:
            self._sums[layout].rows[:] += ledger.rows
            self._shards[layout] += 1

    def windows(self) -> tuple[RowidRange, ...]:
        """The windows of the ledgers (`without_overlaps`); of ledgers that are joined differently, those in common."""
        layouts: dict[ranges.Coverage, tuple[Ledger, int]] = {}
        for layout, ledger in self._sums.items():
            known, shards = layouts.get(ledger.coverage, (ledger, 0))
            layouts[ledger.coverage] = known.common(ledger), shards + self._shards[layout]
        return without_overlaps((ledger.windows, shards) for ledger, shards in layouts.values())

    def rows_of(self, windows: Sequence[RowidRange]) -> Numbers:
        """The rows of each window in all ledgers together."""
        total = np.zeros(len(windows), np.int64)
        for ledger in self._sums.values():
            total += np.maximum(ledger.rows_of(windows), 0)
        return total


def without_overlaps(layouts: Iterable[tuple[Sequence[RowidRange], int]]) -> tuple[RowidRange, ...]:
    """The windows of some layouts, each given with its number of shards.

    Where windows of two layouts overlap, the one that more shards have stands.
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


def others(ledger: Ledger, windows: Sequence[RowidRange]) -> list[RowidRange]:
    """The ledger's lines that are no part of these windows."""
    has = ledger.rows_of(windows) >= 0
    first = np.array([window.first_rowid for window in windows], np.int64)[has]
    last = np.array([window.last_rowid for window in windows], np.int64)[has]
    within = window_of(first, last, ledger.first)
    is_part = (within >= 0) & (within == window_of(first, last, ledger.last))
    return [line for line, known in zip(ledger.windows, is_part.tolist(), strict=True) if not known]
