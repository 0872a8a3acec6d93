"""What to read next, in batches that fit the memory budget, whatever rows weigh and however sparse rowids are."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from etl.core import ranges
from etl.core.backlog import Backlog, adjoining_windows
from etl.core.model import ReadTask, RowidRange
from etl.runtime import limits
from etl.sources.reader import Source

DENSE = 0.8
"""While this share of rowids has rows, windows are counted off by rowid, which asks the source nothing."""

_STRETCH_ROWS = 1_000
"""Where rowids are dense, the rows of so many rowids are weighed together."""
_BATCHES_AT_ONCE = 16
"""Dense rowids are weighed for so many batches in one call."""
_CELL_BYTES = 16
"""What a cell takes in Arrow beside its bytes: a string view, or a number and its validity."""
_LEAST_WIDTH = 1 / 3
"""A row counts as at least this share of the frame columns that it has when all its columns are exact: a batch in which
all columns turn out to be mixed takes at most three times what it was weighed at."""


class Chunker:
    """Cuts what is to do into batches, one after the other.

    The bytes of every row are summed before it is read, from the rows' headers. Rowids that are dense are cut by
    arithmetic, and the rows of a stretch of them are weighed together. Sparse ones, and those in a stretch that is over
    the budget, are weighed row by row.
    """

    def __init__(self, source: Source, backlog: Backlog, *, batch_rows: int, readers: int, slots: int) -> None:
        self._source = source
        self._backlog = backlog
        self._readers = readers
        self._window_rows = batch_rows * readers
        most = max(1, limits.BATCH_LEDGER_LINES // slots)
        self._windows_per_batch = min(most, max(1, limits.BATCH_ROWS // self._window_rows))
        self._density = 0.0

    def batches(self) -> Iterator[ReadTask]:
        """All batches, those of lost shards first."""
        for windows, lacking in adjoining_windows(self._backlog.lost, self._windows_per_batch * self._window_rows):
            whole = RowidRange(windows[0].first_rowid, windows[-1].last_rowid)
            rowids, row_bytes = self._source.row_bytes(whole, rows=-1)
            yield from self._gathered(windows, rowids, row_bytes + self._overhead, lacking=lacking)
        for piece in self._backlog.fresh:
            rest: RowidRange | None = piece
            while rest:
                covered = yield from (self._counted(rest) if self._density >= DENSE else self._weighed(rest))
                rest = RowidRange(covered + 1, piece.last_rowid) if covered < piece.last_rowid else None

    @property
    def _overhead(self) -> int:
        """What a row takes in memory beside the bytes of its cells."""
        read_types = self._source.read_types
        widest = 1 + 4 * len(read_types.types)
        return _CELL_BYTES * max(read_types.width, int(widest * _LEAST_WIDTH))

    def observe(self, batch: ReadTask, rows: int) -> None:
        """Takes in how many rows the batch really had."""
        self._density = rows / sum(window.span for window in batch.windows)

    def _counted(self, rest: RowidRange) -> Generator[ReadTask, None, int]:
        """Batches of rowids counted off by arithmetic, while they are dense; returns the last rowid covered."""
        ahead_rows = _BATCHES_AT_ONCE * self._windows_per_batch * self._window_rows
        ahead = RowidRange(rest.first_rowid, min(rest.first_rowid + ahead_rows - 1, rest.last_rowid))
        step, overhead = min(_STRETCH_ROWS, self._window_rows), self._overhead
        ends, weights = self._source.stretch_bytes(ahead, window=self._window_rows, step=step, overhead=overhead)
        if weights.sum() < DENSE * ahead.span * overhead:
            return (yield from self._weighed(rest))  # the batch before was dense, what comes is not
        per_window = -(-self._window_rows // step)
        windows = ranges.cut_by_size(ahead, ends, weights, most_rows=per_window, most_bytes=limits.BATCH_BYTES)
        for batch in self._gathered(windows, ends, weights, most=self._windows_per_batch):
            whole = RowidRange(batch.windows[0].first_rowid, batch.windows[-1].last_rowid)
            covered = whole.last_rowid
            if batch.bytes > limits.BATCH_BYTES:  # one stretch
                covered = yield from self._weighed(whole)
            else:
                yield replace(batch, partitions=ranges.cut_evenly(whole, -(-whole.span // self._readers)))
            if covered < whole.last_rowid or self._density < DENSE or self._overhead > overhead:
                return covered
        return ahead.last_rowid

    def _weighed(self, rest: RowidRange) -> Generator[ReadTask, None, int]:
        """Batches of rows that are weighed one by one, while lanes stay; returns the last rowid covered."""
        rows, overhead = self._windows_per_batch * self._window_rows, self._overhead
        rowids, row_bytes = self._source.row_bytes(rest, rows=rows)
        last = int(rowids[-1]) if len(rowids) == rows else rest.last_rowid
        weights = row_bytes + overhead
        windows = ranges.cut_by_size(
            RowidRange(rest.first_rowid, last),
            rowids,
            weights,
            most_rows=self._window_rows,
            most_bytes=limits.BATCH_BYTES,
        )
        for batch in self._gathered(windows, rowids, weights):
            yield batch
            if self._overhead > overhead:
                return batch.windows[-1].last_rowid
        return last

    def _gathered(
        self,
        windows: Sequence[RowidRange],
        rowids: npt.NDArray[np.int64],
        weights: npt.NDArray[np.int64],
        *,
        lacking: frozenset[int] | None = None,
        most: int | None = None,
    ) -> Iterator[ReadTask]:
        """Adjoining windows in batches of up to `most` that fit the budget; one that is over it is a batch alone."""
        group: list[RowidRange] = []
        start = stop = 0
        for window in windows:
            end = int(np.searchsorted(rowids, window.last_rowid, side="right"))
            if group and (len(group) == most or weights[start:end].sum() > limits.BATCH_BYTES):
                yield self._batch(group, rowids[start:stop], weights[start:stop], lacking)
                group, start = [], stop
            group.append(window)
            stop = end
        yield self._batch(group, rowids[start:stop], weights[start:stop], lacking)

    def _batch(
        self,
        windows: Sequence[RowidRange],
        rowids: npt.NDArray[np.int64],
        weights: npt.NDArray[np.int64],
        lacking: frozenset[int] | None,
    ) -> ReadTask:
        """The windows, and as many partitions of equal rows as there are readers; each takes a connection."""
        whole = RowidRange(windows[0].first_rowid, windows[-1].last_rowid)
        total = int(weights.sum())
        most_rows = max(1, -(-len(rowids) // self._readers))
        partitions = ranges.cut_by_size(whole, rowids, weights, most_rows=most_rows, most_bytes=total + 1)
        return ReadTask(tuple(windows), tuple(partitions), lacking, total)
