"""The chunks of a verification: what was compared, what is left, and when each was compared, for the next one."""

from __future__ import annotations

from dataclasses import dataclass

from etl.core import ranges
from etl.core.model import RowidRange
from etl.core.ranges import Coverage
from etl.status.checks import Checks
from etl.verify import blocks
from etl.verify.checker import Checker
from etl.verify.differences import Result
from etl.verify.inventory import Inventory


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


class Chunks:
    """All chunks of one verification."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self.compared: list[Chunk] = []
        self._left: Coverage = ()
        self._rows = 0

    def begin(self, inventory: Inventory) -> int:
        """Decides what is to be compared; returns its rows."""
        complete = [window for window in inventory.windows if window not in inventory.partial]
        chosen = inventory.scope.windows(complete, rows=int(inventory.rows.sum()), row_bytes=inventory.row_bytes)
        self._left, self._rows = ranges.union(chosen), int(inventory.rows_of(chosen).sum())
        return self._rows

    def left(self, inventory: Inventory, *, most_rows: float) -> list[list[RowidRange]]:
        """The windows of each chunk that is left to compare, the oldest check first."""
        windows = self._windows_left(inventory)
        # Lines that were joined meanwhile may reach into a chunk that was compared: then that one does not count.
        while again := [chunk for chunk in self.compared if ranges.intersect(chunk.coverage, tuple(windows))]:
            self.compared = [chunk for chunk in self.compared if chunk not in again]
            self._left = ranges.union([*self._left, *(piece for chunk in again for piece in chunk.coverage)])
            windows = self._windows_left(inventory)
        windows.sort(key=lambda window: (self._checks.oldest(window), window))
        return blocks.chunks(windows, inventory.rows_of(windows), inventory.row_bytes, most_rows=most_rows)

    def _windows_left(self, inventory: Inventory) -> list[RowidRange]:
        complete = [window for window in inventory.windows if window not in inventory.partial]
        return [window for window in complete if ranges.intersect(self._left, (window,))]

    def add(self, chunk: Chunk) -> None:
        self.compared.append(chunk)
        self._left = ranges.subtract(self._left, chunk.coverage)

    def record(self, inventory: Inventory, chunk: Chunk, *, equal: bool, deleted: int | None) -> None:
        """Keeps when a chunk was compared, if it was in all shards."""
        if chunk.coverage and inventory.is_whole:
            self._checks.record(chunk.coverage, chunk.checked_at, equal=equal, deleted=deleted)

    @property
    def deleted_elsewhere(self) -> int:
        """The rows that refreshes have deleted in rowids that this one has not compared."""
        return self._checks.deleted_outside(ranges.union(piece for chunk in self.compared for piece in chunk.coverage))

    def forget_deleted(self) -> None:
        self._checks.forget_deleted()

    @property
    def share(self) -> float:
        """How many of the rows were compared."""
        return sum(chunk.rows for chunk in self.compared) / max(1, self._rows)
