"""The source table as connectorx reads it: read-only, in rowid order, and never a cell changed silently."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from etl.core import ranges
from etl.core.columns import ROWID, TAGS, ReadTypes
from etl.core.errors import EtlError
from etl.core.model import Affinity, ReadTask, ReadType, RowidRange, Table
from etl.runtime import limits, log, memory
from etl.sources import continuity, sql
from etl.sqlite import connectorx


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A read task's rows in rowid order, and the read types in which they came, at least as wide as those asked for."""

    task: ReadTask
    frame: pl.DataFrame
    """The column `rowid` Int64, then those of the read types."""
    read_types: ReadTypes
    started_at: datetime
    ms: float


@dataclass(frozen=True, slots=True)
class Sample:
    """How many rows a sample has, and how many bytes their texts and blobs take."""

    rows: int
    bytes: int


class Source:
    """One table of one file. It has no state: what a read finds out about read types is in its result."""

    def __init__(self, path: Path, table: Table) -> None:
        self.path = path
        self.table = table

    def read(self, task: ReadTask, read_types: ReadTypes) -> ReadResult:
        """The task's rows in these read types, or in wider ones.

        If a cell does not fit, its column and every other column that has such cells here are widened to a variant,
        and the task is read again. Raises EtlError if a damaged file hides rows between two reads.
        """
        started_at, start = log.now(), time.perf_counter()
        while True:
            if read_types.width > connectorx.MAX_RESULT_COLUMNS:
                raise self._error(
                    f"reading every cell exactly takes {read_types.width} result columns (one for the rowid, four "
                    f"for each column of mixed storage classes), and SQLite allows {connectorx.MAX_RESULT_COLUMNS}; "
                    "split the table"
                )
            if read_types.width > limits.WIDE_READ_COLUMNS:
                memory.return_freed_buffers(limits.WIDE_READ_BUFFER_BYTES)
            try:
                frame = _in_rowid_order(self._read_in_halves(task.partitions, read_types))
            except connectorx.CellRefused as refused:
                position = read_types.position_of(refused.result_column)
                if position is None or read_types.types[position] is ReadType.VARIANT:
                    raise self._error(str(refused)) from None
                read_types = read_types.widened(position, *self._misfits(task, read_types.widened(position)))
            else:
                self._check_numbers(frame, read_types)
                return ReadResult(task, frame, read_types, started_at, (time.perf_counter() - start) * 1000)

    def _check_numbers(self, frame: pl.DataFrame, read_types: ReadTypes) -> None:
        """Refuses a TEXT column with a number: no sound file has one, and a shard would store it as text."""
        for position, column in enumerate(self.table.carried):
            if column.affinity is Affinity.TEXT and read_types.types[position] is ReadType.VARIANT:
                tags = frame[read_types.frame_columns(position)[0]]
                numbers = frame.filter(tags.is_in([TAGS["integer"], TAGS["real"]]))
                if numbers.height:
                    raise self._error(
                        f"the row {numbers[ROWID][0]} has a number in the TEXT column {column.name}, where SQLite "
                        "stores none: the file is damaged; PRAGMA integrity_check tells more"
                    )

    def _misfits(self, task: ReadTask, read_types: ReadTypes) -> list[int]:
        """The positions of columns that have a cell in the task's rows which does not fit their read type."""
        flags = self._query([sql.misfits(self.table, read_types, partition) for partition in task.partitions])
        return [position for position, column in enumerate(flags.columns) if any(column.to_pylist())]

    def _read_in_halves(self, partitions: Sequence[RowidRange], read_types: ReadTypes) -> list[pa.RecordBatch]:
        try:
            return self._read_checked(partitions, read_types)
        except connectorx.TooManyBytes:
            pieces = ranges.halves(partitions[0]) if len(partitions) == 1 else partitions
            if len(pieces) == 1:
                raise self._error(f"the row {pieces[0].first_rowid} is too big to be read") from None
            middle = len(pieces) // 2
            return [
                *self._read_in_halves(pieces[:middle], read_types),
                *self._read_in_halves(pieces[middle:], read_types),
            ]

    def _read_checked(self, partitions: Sequence[RowidRange], read_types: ReadTypes) -> list[pa.RecordBatch]:
        """The partitions' rows, if they follow each other without a gap."""
        arrow = self._query([sql.read(self.table, read_types, partition) for partition in partitions])
        batches = continuity.rows_of(arrow.to_batches(), partitions)
        if batches is None:
            raise self._error(
                f"rowids {partitions[0].first_rowid}..{partitions[-1].last_rowid}: expected every row, in order, "
                "found a gap: the file is damaged; PRAGMA integrity_check tells more; restore the file, and run again"
            )
        return batches

    def row_bytes(
        self, piece: RowidRange, read_types: ReadTypes, *, rows: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rowids and bytes of texts and blobs of the piece's first `rows` rows (−1: all), both of shape (rows,)."""
        arrow = self._query([sql.row_bytes(self.table, read_types, piece, rows=rows)]).slice(1)
        order = arrow.column("rowid").to_numpy().argsort(kind="stable")
        return arrow.column("rowid").to_numpy()[order], arrow.column("bytes").to_numpy()[order]

    def stretch_bytes(
        self, whole: RowidRange, read_types: ReadTypes, *, window: int, step: int, overhead: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The last rowid of each stretch of `step` rowids, and the bytes of its rows, as in `sql.stretch_bytes`."""
        query = sql.stretch_bytes(self.table, read_types, whole, window=window, step=step, overhead=overhead)
        arrow = self._query([query])
        return arrow.column("rowid").to_numpy(), arrow.column("bytes").to_numpy()

    def sample(self, piece: RowidRange, read_types: ReadTypes, *, step: int) -> Sample:
        """The rows at every `step`-th rowid of the piece."""
        row = self._query([sql.sample_bytes(self.table, read_types, piece, step=step)]).to_pylist()[0]
        return Sample(row["rows"], row["bytes"])

    def count(self, piece: RowidRange) -> int:
        """How many rows the piece has."""
        return int(self._query([sql.count(self.table, piece)]).column("rows")[0].as_py())

    def _query(self, queries: Sequence[str]) -> pa.Table:
        try:
            return connectorx.read(self.path, queries)
        except connectorx.ReadFailed as error:
            raise self._error(
                f"reading failed ({error}); nothing is lost, run again when the source can be read"
            ) from None

    def _error(self, what: str) -> EtlError:
        return EtlError(f"SOURCE_DB={self.path}, TABLE_NAME={self.table.name}: {what}")


def _in_rowid_order(batches: Sequence[pa.RecordBatch]) -> pl.DataFrame:
    """The record batches' rows in rowid order: they come as their queries end, each from within one partition."""
    ordered = sorted((batch for batch in batches if batch.num_rows), key=lambda batch: batch.column(ROWID)[0].as_py())
    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(ordered or batches[:1]), rechunk=False))
    return frame.rechunk()  # of views, hardly more than pointers; a gather from many chunks costs four times as much
