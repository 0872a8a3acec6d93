"""Cuts the backlog into read tasks that fit the memory budget, however large rows are and however sparse rowids."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from etl.core import ranges
from etl.core.backlog import Backlog, adjoining_windows
from etl.core.columns import ReadTypes, first_read_types
from etl.core.model import ReadTask, RowidRange
from etl.runtime import limits
from etl.sources.reader import ReadResult, Source

DENSE = 0.8
"""If at least this share of rowids has rows, windows are cut by rowid, and rows are measured by the stretch."""
_STRETCH_ROWS = 1_000
"""Where rowids are dense, the rows of this many rowids are measured together."""
_TASKS_AT_ONCE = 2
"""Dense rowids are measured for this many read tasks in one call."""
_CELL_BYTES = 16
"""What a cell takes in Arrow besides its text or blob: a string view, or a number and its validity."""
_LEAST_WIDTH = 1 / 3
"""A row counts as at least this share of the frame columns that it has when all its columns are variants. So a task
takes at most three times its estimate if all columns turn out to have mixed storage classes."""


class Chunker:
    """Gives one read task after the other, and keeps the widest read types so far.

    The bytes of every row are summed before it is read, from the rows' headers. Dense rowids are cut by arithmetic,
    and a stretch of them is measured as a whole. Sparse rowids, and stretches above the budget, are
    measured row by row.
    """

    def __init__(
        self,
        source: Source,
        backlog: Backlog,
        *,
        batch_rows: int,
        readers: int,
        slots: int,
        read_types: ReadTypes | None = None,
    ) -> None:
        self._source = source
        self._backlog = backlog
        self._readers = readers
        self._window_rows = batch_rows * readers
        most = max(1, limits.READ_TASK_LEDGER_LINES // slots)
        self._windows_per_task = min(most, max(1, limits.READ_TASK_ROWS // self._window_rows))
        self._density = 0.0
        self.read_types = read_types or first_read_types(source.table)
        """Those of the last result: the next task is to be read in them."""

    def tasks(self) -> Iterator[ReadTask]:
        """All read tasks, those of lost shards first. `observe` is due after each."""
        for windows, slots in adjoining_windows(self._backlog.lost, self._windows_per_task * self._window_rows):
            whole = RowidRange(windows[0].first_rowid, windows[-1].last_rowid)
            rowids, row_bytes = self._source.row_bytes(whole, self.read_types, rows=-1)
            sizes = _in_memory(row_bytes) + self._overhead
            parts = [part for window in windows for part in _parts(window, rowids, sizes)]
            yield from self._gathered(parts, rowids, sizes, slots=slots)
        for piece in self._backlog.fresh:
            rest: RowidRange | None = piece
            while rest:
                covered = yield from (self._dense(rest) if self._density >= DENSE else self._sparse(rest))
                rest = RowidRange(covered + 1, piece.last_rowid) if covered < piece.last_rowid else None

    def observe(self, result: ReadResult) -> None:
        """Takes in how many rows a task really had, and the read types in which they came."""
        self._density = result.frame.height / sum(window.span for window in result.task.windows)
        self.read_types = result.read_types

    @property
    def _overhead(self) -> int:
        """What a row takes in memory besides its texts and blobs."""
        widest = 1 + 4 * len(self.read_types.types)
        return _CELL_BYTES * max(self.read_types.width, int(widest * _LEAST_WIDTH))

    @property
    def _partitions(self) -> int:
        return partitions(self.read_types, self._readers)

    def _dense(self, rest: RowidRange) -> Generator[ReadTask, None, int]:
        """Tasks cut by rowid, while rowids are dense and read types stay; returns the last rowid covered."""
        ahead_rows = _TASKS_AT_ONCE * self._windows_per_task * self._window_rows
        ahead = RowidRange(rest.first_rowid, min(rest.first_rowid + ahead_rows - 1, rest.last_rowid))
        step, overhead = min(_STRETCH_ROWS, self._window_rows), self._overhead
        ends, sizes = self._source.stretch_bytes(
            ahead, self.read_types, window=self._window_rows, step=step, overhead=overhead
        )
        if sizes.sum() < DENSE * ahead.span * overhead:
            return (yield from self._sparse(rest))  # the task before was dense, what follows is not
        per_window = -(-self._window_rows // step)
        windows = ranges.cut_by_size(ahead, ends, sizes, most_rows=per_window, most_bytes=limits.READ_TASK_BYTES)
        for task in self._gathered(windows, ends, sizes, most=self._windows_per_task):
            whole = task.whole
            covered = whole.last_rowid
            if task.bytes > limits.READ_TASK_BYTES:  # one stretch
                covered = yield from self._sparse(whole)
            else:
                yield replace(task, partitions=ranges.cut_evenly(whole, -(-whole.span // self._partitions)))
            if covered < whole.last_rowid or self._density < DENSE or self._overhead > overhead:
                return covered
        return ahead.last_rowid

    def _sparse(self, rest: RowidRange) -> Generator[ReadTask, None, int]:
        """Tasks of rows that are measured one by one, while read types stay; returns the last rowid covered."""
        rows, overhead = self._windows_per_task * self._window_rows, self._overhead
        rowids, row_bytes = self._source.row_bytes(rest, self.read_types, rows=rows)
        last = int(rowids[-1]) if len(rowids) == rows else rest.last_rowid
        sizes = _in_memory(row_bytes) + overhead
        windows = ranges.cut_by_size(
            RowidRange(rest.first_rowid, last),
            rowids,
            sizes,
            most_rows=self._window_rows,
            most_bytes=limits.READ_TASK_BYTES,
        )
        for task in self._gathered(windows, rowids, sizes):
            yield task
            if self._overhead > overhead:
                return task.whole.last_rowid
        return last

    def _gathered(
        self,
        windows: Sequence[RowidRange],
        rowids: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        *,
        slots: frozenset[int] | None = None,
        most: int | None = None,
    ) -> Iterator[ReadTask]:
        """Adjoining windows in tasks of up to `most` that fit the budget; a window above it is a task of its own."""
        group: list[RowidRange] = []
        start = stop = 0
        for window in windows:
            end = int(np.searchsorted(rowids, window.last_rowid, side="right"))
            if group and (len(group) == most or sizes[start:end].sum() > limits.READ_TASK_BYTES):
                yield self._task(group, rowids[start:stop], sizes[start:stop], slots)
                group, start = [], stop
            group.append(window)
            stop = end
        yield self._task(group, rowids[start:stop], sizes[start:stop], slots)

    def _task(
        self,
        windows: Sequence[RowidRange],
        rowids: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        slots: frozenset[int] | None,
    ) -> ReadTask:
        """The windows, in partitions of equal rows."""
        whole = RowidRange(windows[0].first_rowid, windows[-1].last_rowid)
        total = int(sizes.sum())
        most_rows = max(1, -(-len(rowids) // self._partitions))
        parts = ranges.cut_by_size(whole, rowids, sizes, most_rows=most_rows, most_bytes=total + 1)
        return ReadTask(tuple(windows), tuple(parts), slots, total)


def partitions(read_types: ReadTypes, readers: int) -> int:
    """In how many partitions a task is read; each takes a connection, and buffers for each result column."""
    return max(1, min(readers, limits.READ_BUFFERS // len(read_types.grouped(limits.READ_COLUMNS).names)))


def _parts(window: RowidRange, rowids: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Sequence[RowidRange]:
    """A window in parts that fit into a read each: those of a ledger are joined after years."""
    start = np.searchsorted(rowids, window.first_rowid)
    stop = np.searchsorted(rowids, window.last_rowid, side="right")
    return ranges.cut_by_size(
        window,
        rowids[start:stop],
        sizes[start:stop],
        most_rows=limits.READ_TASK_ROWS,
        most_bytes=limits.READ_TASK_BYTES,
    )


def _in_memory(row_bytes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What the cells of each row take while they are read; both of shape (rows,)."""
    return row_bytes * np.where(row_bytes > limits.LARGE_ROW_BYTES, limits.LARGE_ROW_COPIES, 1)
