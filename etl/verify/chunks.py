"""The chunks of a verification: what was compared, what is left, and when each was compared, for the next one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from etl.core import ranges
from etl.core.model import RowidRange
from etl.core.ranges import Coverage
from etl.status.checks import Checks
from etl.verify import blocks
from etl.verify.checker import Checker
from etl.verify.differences import Result
from etl.verify.inventory import Inventory

_RATED_CHUNK_S = 60
"""With a rate limit a chunk takes no longer: a part of it may be compared again after a run."""


@dataclass(slots=True, eq=False)
class Chunk:
    """Some windows that were compared."""

    found: Result
    left: Result
    """What still differs: `found`, or what was found after the repair."""
    coverage: Coverage
    rows: int
    checked_at: str
    checker: Checker | None
    """None where there is nothing to repair."""

    def may_have_changed(self, inventory: Inventory) -> bool:
        """Whether a run may have repaired, before this inventory was taken, what differs or could not be read."""
        is_older = self.checker is not None and self.checker.inventory is not inventory
        return is_older or self.found.shards < len(inventory.slots)


class Chunks:
    """All chunks of one verification."""

    def __init__(self, checks: Checks, max_rate: int | None) -> None:
        self._checks = checks
        self._most_rows = math.inf if max_rate is None else max_rate * _RATED_CHUNK_S
        self.compared: list[Chunk] = []
        self._left: Coverage = ()
        self._rows = 0
        self._is_second_round = False
        self._stale: list[Chunk] = []

    def begin(self, inventory: Inventory) -> int:
        """Decides what is to be compared; returns its rows."""
        chosen = inventory.scope.windows(
            inventory.complete, rows=int(inventory.rows.sum()), row_bytes=inventory.row_bytes
        )
        self._left, self._rows = ranges.union(chosen), int(inventory.rows_of(chosen).sum())
        return self._rows

    def left(self, inventory: Inventory) -> list[list[RowidRange]]:
        """The windows of each chunk that is left to compare, the oldest check first."""
        windows = self._windows_left(inventory)
        # Lines that were joined meanwhile may reach into a chunk that was compared: then that one does not count.
        while again := [chunk for chunk in self.compared if ranges.intersect(chunk.coverage, tuple(windows))]:
            self._take_back(again)
            windows = self._windows_left(inventory)
        windows.sort(key=lambda window: (self._checks.oldest(window), window))
        return blocks.chunks(windows, inventory.rows_of(windows), inventory.row_bytes, most_rows=self._most_rows)

    def _windows_left(self, inventory: Inventory) -> list[RowidRange]:
        return [window for window in inventory.complete if ranges.intersect(self._left, (window,))]

    def once_more(self, inventory: Inventory) -> bool:
        """At the end: leaves to compare what runs may have changed since the first sitting.

        That is chunks that differ or lack a shard, and new windows. Only once: runs may come without end.
        """
        if self._is_second_round:
            return False
        self._is_second_round = True
        done = self._coverage
        new = [
            window
            for window in inventory.complete
            if inventory.scope.holds(window) and ranges.subtract((window,), done)
        ]
        self._stale = [chunk for chunk in self.compared if chunk.may_have_changed(inventory)]
        self._take_back(self._stale)
        self._left = ranges.union([*self._left, *ranges.subtract(ranges.union(new), done)])
        self._rows += int(inventory.rows_of(new).sum())
        return True

    def _take_back(self, chunks: Sequence[Chunk]) -> None:
        self.compared = [chunk for chunk in self.compared if chunk not in chunks]
        self._left = ranges.union([*self._left, *(piece for chunk in chunks for piece in chunk.coverage)])

    def add(self, chunk: Chunk) -> None:
        self.compared.append(chunk)
        self._left = ranges.subtract(self._left, chunk.coverage)

    def record(self, inventory: Inventory, chunk: Chunk, *, equal: bool, deleted: int | None) -> None:
        """Keeps when a chunk was compared, if it was in all shards."""
        if chunk.coverage and inventory.is_whole:
            self._checks.record(chunk.coverage, chunk.checked_at, equal=equal, deleted=deleted)

    @property
    def last(self) -> list[Chunk]:
        """The last comparison of each rowid: what was to be compared once more still counts until it is."""
        return [*self.compared, *(chunk for chunk in self._stale if ranges.intersect(chunk.coverage, self._left))]

    @property
    def deleted_elsewhere(self) -> int:
        """The rows that refreshes have deleted in rowids that this one has not compared."""
        return self._checks.deleted_outside(self._coverage)

    @property
    def _coverage(self) -> Coverage:
        """What was compared."""
        return ranges.union(piece for chunk in self.compared for piece in chunk.coverage)

    def forget_deleted(self) -> None:
        self._checks.forget_deleted()

    @property
    def share(self) -> float:
        """How many of the rows were compared."""
        return sum(chunk.rows for chunk in self.last) / max(1, self._rows)
