"""A whole ledger as arrays: it may have thousands of lines, and those of version 0.1 millions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etl.core import ranges
from etl.core.model import RowidRange
from etl.shards.ledger import SELECT_WINDOWS
from etl.sqlite.adbc import Connection

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ledger:
    """All arrays have the shape (lines,) and ascend by rowid; the lines are disjoint."""

    first: Numbers
    last: Numbers
    rows: Numbers

    @property
    def windows(self) -> list[RowidRange]:
        return [RowidRange(int(first), int(last)) for first, last in zip(self.first, self.last, strict=True)]

    @property
    def coverage(self) -> ranges.Coverage:
        """The lines' rowids, adjacent ones merged."""
        starts = np.flatnonzero(self._begins_after_gap)
        ends = np.append(starts[1:], len(self.first)) - 1
        return tuple(
            RowidRange(int(first), int(last))
            for first, last in zip(self.first[starts], self.last[ends[: len(starts)]], strict=True)
        )

    def rows_of(self, windows: Sequence[RowidRange]) -> Numbers:
        """The rows of each of these windows, −1 where no lines of the ledger make up exactly that window.

        A window may be one line, or several that follow each other: ledgers are not joined all at the same moment.
        """
        first = np.array([window.first_rowid for window in windows], np.int64)
        last = np.array([window.last_rowid for window in windows], np.int64)
        return self.rows_between(first, last)

    def rows_between(self, first: Numbers, last: Numbers) -> Numbers:
        """`rows_of` the windows with these ends."""
        if not len(self.first):
            return np.full(len(first), -1, np.int64)
        start = np.minimum(np.searchsorted(self.first, first), len(self.first) - 1)
        end = np.minimum(np.searchsorted(self.last, last), len(self.last) - 1)
        gaps = np.cumsum(self._begins_after_gap)
        same = (self.first[start] == first) & (self.last[end] == last) & (gaps[start] == gaps[end])
        total = np.concatenate([[0], np.cumsum(self.rows)])
        return np.where(same, total[end + 1] - total[start], -1)

    def common(self, other: Ledger) -> Ledger:
        """The finest windows that both ledgers have, with the rows of both together. Both have the same coverage."""
        first, last = np.intersect1d(self.first, other.first), np.intersect1d(self.last, other.last)
        return Ledger(first, last, self.rows_between(first, last) + other.rows_between(first, last))

    def joined(self, *, most: int, newest: int) -> Ledger:
        """Neighbouring lines joined, except the `newest` ones: about `most` of similar size are left.

        Lines with a gap between them are not joined, and none crosses from −1 to 0, as in a load.
        """
        old = max(0, len(self.first) - newest)
        most_rows = 2 * int(self.rows[:old].sum()) // most  # any two neighbours together have more rows than this
        starts, rows = [], 0
        begins = self._begins_after_gap | (self.first == 0)
        for line, (is_start, line_rows) in enumerate(zip(begins.tolist(), self.rows.tolist(), strict=True)):
            if is_start or line >= old or rows + line_rows > most_rows:
                starts.append(line)
                rows = 0
            rows += line_rows
        at = np.array(starts, np.int64)
        ends = np.append(at[1:], len(self.first)) - 1
        return Ledger(
            self.first[at], self.last[ends[: len(at)]], np.add.reduceat(self.rows, at) if len(at) else self.rows
        )

    @property
    def _begins_after_gap(self) -> npt.NDArray[np.bool_]:
        """Whether each line does not follow the one before it; true of the first."""
        return np.concatenate([[True], self.first[1:] != self.last[:-1] + 1])[: len(self.first)]


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
