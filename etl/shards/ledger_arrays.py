"""A whole ledger as arrays: it may have millions of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etl.core.model import RowidRange
from etl.shards.ledger import SELECT_WINDOWS
from etl.sqlite.adbc import Connection

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ledger:
    """All arrays have the shape (windows,) and ascend by rowid."""

    first: Numbers
    last: Numbers
    rows: Numbers

    @property
    def windows(self) -> list[RowidRange]:
        return [RowidRange(int(first), int(last)) for first, last in zip(self.first, self.last, strict=True)]

    def rows_of(self, windows: Sequence[RowidRange]) -> Numbers:
        """The rows of each of these windows, −1 where the ledger does not have exactly that window."""
        found = np.full(len(windows), -1, np.int64)
        if len(self.first) and windows:
            first = np.array([window.first_rowid for window in windows], np.int64)
            last = np.array([window.last_rowid for window in windows], np.int64)
            at = np.minimum(np.searchsorted(self.first, first), len(self.first) - 1)
            same = (self.first[at] == first) & (self.last[at] == last)
            found[same] = self.rows[at[same]]
        return found


def read(connection: Connection) -> Ledger:
    """The shard's ledger."""
    columns = connection.fetch(SELECT_WINDOWS).columns
    return Ledger(*(column.to_numpy().astype(np.int64) for column in columns))


def window_of(first: Numbers, last: Numbers, rowids: Numbers) -> Numbers:
    """The position of the window that holds each rowid, −1 where none does; shape (rows,).

    `first` and `last` are those of disjoint windows, ascending.
    """
    if not len(first):
        return np.full(len(rowids), -1)
    at = np.searchsorted(last, rowids)
    inside = (at < len(last)) & (rowids >= first[np.minimum(at, len(first) - 1)])
    return np.where(inside, at, -1)
