"""What to read next, in batches that fit the memory budget, whatever rows weigh and however sparse rowids are."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from etl.core import ranges
from etl.core.model import ReadTask, RowidRange
from etl.runtime import limits
from etl.sources.reader import Source

DENSE = 0.8
"""While this share of rowids has rows, windows are counted off by rowid, which asks the source nothing."""

_SAMPLE_STEP = 32
"""Large rows that come in clusters of at least so many are seen before they are read, wherever they stand."""
_BATCHES_PER_SAMPLE = 16
_CELL_BYTES = 16
"""What a cell takes in Arrow beside its bytes: a string view, or a number and its validity."""


class Chunker:
    """Cuts what is to do into batches, one after the other.

    Rowids that are dense are cut by arithmetic, and a sample of rows tells what they weigh. Sparse ones, and all from
    the first large row that a sample finds, are weighed row by row first.
    """

    def __init__(self, source: Source, backlog: ranges.Backlog, *, batch_rows: int, readers: int, slots: int) -> None:
        self._source = source
        self._backlog = backlog
        self._readers = readers
        self._window_rows = batch_rows * readers
        most = max(1, limits.BATCH_LEDGER_LINES // slots)
        self._windows_per_batch = min(most, max(1, limits.BATCH_ROWS // self._window_rows))
        self._overhead = _CELL_BYTES * (1 + len(source.table.carried))
        self._density = 0.0
        self._has_large_rows = False

    def batches(self) -> Iterator[ReadTask]:
        """All batches, those of lost shards first."""
        for windows, lacking in ranges.neighbours(self._backlog.lost, self._windows_per_batch * self._window_rows):
            whole = RowidRange(windows[0].first_rowid, windows[-1].last_rowid)
            rowids, row_bytes = self._source.row_bytes(whole, rows=-1)
            yield from self._gathered(windows, rowids, row_bytes + self._overhead, lacking)
        for piece in self._backlog.fresh:
            rest: RowidRange | None = piece
            while rest:
                covered = yield from (self._counted(rest) if self._is_plain else self._weighed(rest))
                rest = RowidRange(covered + 1, piece.last_rowid) if covered < piece.last_rowid else None

    @property
    def _is_plain(self) -> bool:
        return self._density >= DENSE and not self._has_large_rows

    def observe(self, batch: ReadTask, rows: int) -> None:
        """Takes in how many rows the batch really had."""
        self._density = rows / sum(window.span for window in batch.windows)

    def _counted(self, rest: RowidRange) -> Generator[ReadTask, None, int]:
        """Batches of rowids counted off by arithmetic, as far as one sample reaches; returns the last rowid covered."""
        ahead_rows = _BATCHES_PER_SAMPLE * self._windows_per_batch * self._window_rows
        ahead = RowidRange(rest.first_rowid, min(rest.first_rowid + ahead_rows - 1, rest.last_rowid))
        sample = self._source.sample(ahead, step=_SAMPLE_STEP)
        if sample.most > limits.LARGE_ROW_BYTES:
            self._has_large_rows = True
            return (yield from self._weighed(rest))
        if sample.rows * _SAMPLE_STEP < DENSE * ahead.span:
            return (yield from self._weighed(rest))  # the batch before was dense, what comes is not
        fitting_rows = int(limits.BATCH_BYTES / (sample.heaviest + self._overhead))
        window_rows = min(self._window_rows, fitting_rows)
        per_batch = min(self._windows_per_batch, fitting_rows // window_rows)
        for group in ranges.groups(ranges.cut_evenly(ahead, window_rows), per_batch):
            whole = RowidRange(group[0].first_rowid, group[-1].last_rowid)
            yield ReadTask(group, ranges.cut_evenly(whole, -(-whole.span // self._readers)))
        return ahead.last_rowid

    def _weighed(self, rest: RowidRange) -> Generator[ReadTask, None, int]:
        """Batches of rows that are weighed one by one; returns the last rowid covered."""
        rows = self._windows_per_batch * self._window_rows
        rowids, row_bytes = self._source.row_bytes(rest, rows=rows)
        last = int(rowids[-1]) if len(rowids) == rows else rest.last_rowid
        weights = row_bytes + self._overhead
        windows = ranges.cut_by_weight(
            RowidRange(rest.first_rowid, last),
            rowids,
            weights,
            most_rows=self._window_rows,
            most_bytes=limits.BATCH_BYTES,
        )
        yield from self._gathered(windows, rowids, weights, None)
        return last

    def _gathered(
        self,
        windows: Sequence[RowidRange],
        rowids: npt.NDArray[np.int64],
        weights: npt.NDArray[np.int64],
        lacking: frozenset[int] | None,
    ) -> Iterator[ReadTask]:
        """Adjoining windows in batches that fit the budget; one that alone is over it is a batch of its own."""
        group: list[RowidRange] = []
        start = stop = 0
        for window in windows:
            end = int(np.searchsorted(rowids, window.last_rowid, side="right"))
            if group and weights[start:end].sum() > limits.BATCH_BYTES:
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
        whole = RowidRange(windows[0].first_rowid, windows[-1].last_rowid)
        return ReadTask(tuple(windows), self._partitions(whole, rowids, weights), lacking)

    def _partitions(
        self, whole: RowidRange, rowids: npt.NDArray[np.int64], weights: npt.NDArray[np.int64]
    ) -> tuple[RowidRange, ...]:
        """The range cut into as many partitions as there are readers, of equal rows; each takes a connection."""
        most_rows = max(1, -(-len(rowids) // self._readers))
        return tuple(
            ranges.cut_by_weight(whole, rowids, weights, most_rows=most_rows, most_bytes=int(weights.sum()) + 1)
        )
