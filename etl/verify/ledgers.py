"""All shards' ledgers beside each other and the manifest: which windows there are, and who has others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from etl.core import ranges
from etl.core.model import RowidRange
from etl.shards.manifest import Manifest, intact
from etl.verify.blocks import reference

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ledger:
    """A shard's ledger as columns, all of shape (windows,), ascending."""

    first: Numbers
    last: Numbers
    rows: Numbers

    @property
    def layout(self) -> tuple[bytes, bytes]:
        """What two ledgers of the same windows have in common."""
        return self.first.tobytes(), self.last.tobytes()

    @property
    def windows(self) -> list[RowidRange]:
        """Its windows."""
        return [RowidRange(int(first), int(last)) for first, last in zip(self.first, self.last, strict=True)]

    def rows_of(self, windows: Sequence[RowidRange]) -> Numbers:
        """Its rows of each of these windows, −1 where it has not just that window; shape (windows,)."""
        first, last = _columns(windows)
        found = np.full(len(windows), -1, np.int64)
        if len(self.first):
            at = np.minimum(np.searchsorted(self.first, first), len(self.first) - 1)
            same = (self.first[at] == first) & (self.last[at] == last)
            found[same] = self.rows[at[same]]
        return found

    def rows_about(self, stretch: RowidRange) -> int:
        """The rows of its windows that reach into the stretch."""
        return int(self.rows[(self.last >= stretch.first_rowid) & (self.first <= stretch.last_rowid)].sum())

    def strange_to(self, windows: Sequence[RowidRange]) -> list[RowidRange]:
        """Those of its windows that are none of these."""
        return sorted(set(self.windows) - set(windows)) if self._others(windows) else []

    def _others(self, windows: Sequence[RowidRange]) -> bool:
        return int(np.count_nonzero(self.rows_of(windows) >= 0)) != len(self.first)


class Ledgers:
    """What the ledgers say together. Those of the same windows are kept once: thousands of shards have one layout."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[bytes, bytes], list[RowidRange]] = {}
        self._rows: dict[tuple[bytes, bytes], Numbers] = {}
        self._shards: dict[tuple[bytes, bytes], int] = {}

    def add(self, ledger: Ledger) -> None:
        """Takes in a shard's ledger."""
        layout = ledger.layout
        if layout not in self._layouts:
            self._layouts[layout], self._rows[layout], self._shards[layout] = ledger.windows, ledger.rows.copy(), 1
        else:
            self._rows[layout] += ledger.rows
            self._shards[layout] += 1

    def windows(self) -> tuple[RowidRange, ...]:
        """The windows that they speak of; see `grid.reference`."""
        return reference((self._layouts[layout], self._shards[layout]) for layout in self._layouts)

    def rows_of(self, windows: Sequence[RowidRange]) -> Numbers:
        """The rows of each window in all ledgers together."""
        total = np.zeros(len(windows), np.int64)
        for layout, rows in self._rows.items():
            found = Ledger(np.frombuffer(layout[0], np.int64), np.frombuffer(layout[1], np.int64), rows).rows_of(
                windows
            )
            total += np.maximum(found, 0)
        return total


class Register:
    """The manifest's lines held against the ledgers, one shard after the other."""

    def __init__(self, manifest: Manifest, windows: Sequence[RowidRange], shards: Sequence[int]) -> None:
        self._shards = shards
        self._windows = windows
        self._lines = manifest.lines().unique("first_rowid", keep="first", maintain_order=True).sort("first_rowid")
        self._first = self._lines["first_rowid"].to_numpy()
        self._last = self._lines["last_rowid"].to_numpy()
        self._manifest = manifest
        self._is_done = np.ones(len(windows), np.bool_)
        is_whole = intact(self._lines) & (self._lines["rows_by_shard"].list.len() == len(shards))
        self._is_wrong = self._aligned(is_whole.fill_null(value=False).cast(pl.Int64).to_numpy()) != 1
        self._total = np.zeros(len(windows), np.int64)

    def compare(self, slot: int, rows: Numbers) -> None:
        """Takes in one shard's rows of each window, −1 where its ledger lacks it."""
        said = self._lines["rows_by_shard"].list.get(slot, null_on_oob=True)
        is_here = (said.struct.field("shard") == self._shards[slot]).fill_null(False)
        of_slot = said.struct.field("rows").set(~is_here, None).fill_null(-1).to_numpy()
        self._is_wrong |= self._aligned(of_slot) != rows
        self._is_done &= rows >= 0
        self._total += rows

    def wrong(self) -> list[int]:
        """The positions of windows that every ledger has and the manifest has not, or not so, or edited."""
        is_wrong = self._is_wrong | (self._aligned(self._lines["rows"].to_numpy()) != self._total)
        return [int(position) for position in np.flatnonzero(is_wrong & self._is_done)]

    @property
    def is_sound(self) -> bool:
        """Whether the manifest has each window that every ledger has once, no others, and all files can be read."""
        return self._manifest.is_sound(self.done)

    @property
    def done(self) -> ranges.Coverage:
        """The windows that every ledger has."""
        return ranges.union(window for window, done in zip(self._windows, self._is_done, strict=True) if done)

    def _aligned(self, column: Numbers) -> Numbers:
        """A column of the manifest's lines as one of windows, −1 where there is no line."""
        return Ledger(self._first, self._last, column).rows_of(self._windows)


def _columns(windows: Sequence[RowidRange]) -> tuple[Numbers, Numbers]:
    first = np.array([window.first_rowid for window in windows], np.int64)
    return first, np.array([window.last_rowid for window in windows], np.int64)
