"""Windows of some shards, deleted and written again as the source has them now: one transaction for each shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.core import ranges
from etl.core.model import RowidRange
from etl.runtime import limits, log
from etl.shards import ledger, ledger_arrays
from etl.shards.ledger_arrays import Numbers
from etl.shards.shard import Shard
from etl.shards.transaction import Transaction


class Replacement:
    """A context manager; what is not committed when the block ends is rolled back.

    The old rows of all shards are deleted before any row is inserted: a UNIQUE cell may have moved to another window.
    """

    def __init__(self, shards: Mapping[int, Shard], windows: Mapping[int, Sequence[RowidRange]]) -> None:
        """Takes the shards by slot, and the windows to replace in each: disjoint and ascending."""
        self._shards = shards
        self._windows = windows
        self._first = {slot: np.array([window.first_rowid for window in of], np.int64) for slot, of in windows.items()}
        self._last = {slot: np.array([window.last_rowid for window in of], np.int64) for slot, of in windows.items()}
        self._rows = {slot: np.zeros(len(of), np.int64) for slot, of in windows.items()}
        self._transactions: dict[int, Transaction] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for slot, shard in self._shards.items():
            self._transactions[slot] = Transaction(shard, cache_kib=limits.cache_kib(len(self._shards)))
            self._stack.callback(self._transactions[slot].close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def coverage(self) -> ranges.Coverage:
        """The rowids to read from the source."""
        return ranges.union(window for windows in self._windows.values() for window in windows)

    def delete(self, slot: int) -> None:
        """Deletes the windows' rows and ledger lines."""
        for statement in ledger.deletions(self._shards[slot].table, ranges.union(self._windows[slot])):
            self._transactions[slot].execute(statement)

    def execute(self, slot: int, statement: str) -> None:
        """Runs another statement in the shard's transaction, before any row is inserted."""
        self._transactions[slot].execute(statement)

    def select(self, rowids: Numbers, slots: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Which rows are to be inserted, given all rows of the source in some ranges; counts them by window.

        `slots` says which shard each row belongs to; all arrays have the shape (rows,).
        """
        selected = np.zeros(len(rowids), np.bool_)
        for slot, counts in self._rows.items():
            of_slot = np.flatnonzero(slots == slot)
            windows = ledger_arrays.window_of(self._first[slot], self._last[slot], rowids[of_slot])
            inside = windows >= 0
            counts[:] += np.bincount(windows[inside], minlength=len(counts))
            selected[of_slot[inside]] = True
        return selected

    def insert(self, slot: int, rows: pa.Table, statement: str, *, breaks_not_null: bool) -> None:
        """Inserts the selected rows of a shard, sorted by rowid."""
        self._transactions[slot].insert(rows, statement, breaks_not_null=breaks_not_null)

    def commit(self, slot: int, run_id: str) -> int:
        """Commits the shard's rows with their ledger lines; returns the number of rows."""
        transaction = self._transactions[slot]
        for window, rows in zip(self._windows[slot], self._rows[slot], strict=True):
            transaction.note(window, int(rows))
        transaction.commit(run_id, log.now().isoformat())
        return int(self._rows[slot].sum())
