"""The source table as connectorx reads it: read-only, in rowid order, never a cell changed in silence."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote as url_quote

os.environ.setdefault("RUST_LOG", "off")  # connectorx's pool prints to the console otherwise; read at its import

import connectorx
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from etl import plan, sql, sql_rows, walk
from etl.errors import EtlError
from etl.lanes import ROWID, TAGS, first_lanes
from etl.model import Affinity, Batch, Lane, RowidRange, Table
from etl.schema import read_only_uri

MAX_RESULT_COLUMNS = 2000
"""SQLite's limit (SQLITE_MAX_COLUMN), compiled into connectorx."""

_READS = 3
"""A batch whose rows do not adjoin is read again: a program may just have deleted or inserted one there."""

_REFUSED_CELL = re.compile(r"(?:Invalid column type|Conversion error from type) \w+ at index: (\d+)")


@dataclass(frozen=True, slots=True)
class Sample:
    """How many rows a sample has, and bytes of their cells."""

    rows: int
    bytes: int


class Source:
    """One table of one file. Its lanes widen as cells ask for it; nothing else changes."""

    def __init__(self, path: Path, table: Table) -> None:
        self.path = path
        self.table = table
        self.lanes = first_lanes(table)
        self._uri = "sqlite://" + url_quote(read_only_uri(path), safe="")

    @property
    def widened(self) -> tuple[str, ...]:
        """The columns that have been widened to the exact lane."""
        first = first_lanes(self.table).lanes
        return tuple(
            column.name
            for column, before, now in zip(self.table.carried, first, self.lanes.lanes, strict=True)
            if before is not now
        )

    def read(self, batch: Batch) -> pl.DataFrame:
        """The batch's rows in rowid order: `rowid` Int64, then the lanes' columns; sentinel rows are still among them.

        A cell that its lane cannot carry widens that column, and every other that has such cells here, to the exact
        lane; then the batch is read again. Raises EtlError where a damaged file hides rows between two reads.
        """
        while True:
            if self.lanes.width > MAX_RESULT_COLUMNS:
                raise self._error(
                    f"carrying every cell as it is takes {self.lanes.width} result columns (one for the rowid, four "
                    f"for each column of mixed storage classes), and SQLite gives {MAX_RESULT_COLUMNS}; split the table"
                )
            try:
                return self._checked(_in_rowid_order(self._query_in_halves(batch.partitions)))
            except _CellRefused as refused:
                position = self.lanes.position_of(refused.result_column)
                if position is None or self.lanes.lanes[position] is Lane.EXACT:
                    raise self._error(str(refused)) from None
                self.lanes = self.lanes.widened(position)
                for misfit in self._misfits(batch):
                    self.lanes = self.lanes.widened(misfit)

    def _checked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame, unless a TEXT column has a number: no sound file has, and a shard would make a text of it."""
        for position, column in enumerate(self.table.carried):
            if column.affinity is Affinity.TEXT and self.lanes.lanes[position] is Lane.EXACT:
                tags = frame[self.lanes.frame_columns(position)[0]]
                numbers = frame.filter(tags.is_in([TAGS["integer"], TAGS["real"]]))
                if numbers.height:
                    raise self._error(
                        f"the row {numbers[ROWID][0]} has a number in the TEXT column {column.name}, where SQLite "
                        "stores none: the file is damaged; PRAGMA integrity_check tells more"
                    )
        return frame

    def _misfits(self, batch: Batch) -> list[int]:
        """The positions of columns that have a cell in the batch which their lane cannot carry."""
        flags = self._query([sql.misfits(self.table, self.lanes, partition) for partition in batch.partitions])
        return [position for position, column in enumerate(flags.columns) if any(column.to_pylist())]

    def _query_in_halves(self, partitions: Sequence[RowidRange]) -> list[pa.RecordBatch]:
        try:
            return self._joined(partitions)
        except _TooMuch:
            pieces = plan.halves(partitions[0]) if len(partitions) == 1 else partitions
            if len(pieces) == 1:
                raise self._error(f"the row {pieces[0].first_rowid} is too big to be read") from None
            middle = len(pieces) // 2
            return [*self._query_in_halves(pieces[:middle]), *self._query_in_halves(pieces[middle:])]

    def _joined(self, partitions: Sequence[RowidRange]) -> list[pa.RecordBatch]:
        """The partitions' rows, held to the tree at their edges: one more query of the same call."""
        queries = [sql.read(self.table, self.lanes, partition) for partition in partitions]
        for _ in range(_READS):
            arrow = self._query([*queries, sql_rows.edges(self.table, self.lanes, partitions)])
            batches = walk.without_edges(arrow.to_batches(), partitions)
            if batches is not None:
                return batches
        raise self._error(
            f"rowids {partitions[0].first_rowid}..{partitions[-1].last_rowid}: the rows there do not follow each "
            "other as a sound file's do; PRAGMA integrity_check tells more; restore the file, and run again"
        )

    def row_bytes(self, window: RowidRange, *, rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rowids and bytes of cells of the window's first `rows` rows (−1: of all), both of shape (rows,)."""
        arrow = self._query([sql.row_bytes(self.table, self.lanes, window, rows=rows)]).slice(1)
        order = arrow.column("rowid").to_numpy().argsort(kind="stable")
        return arrow.column("rowid").to_numpy()[order], arrow.column("bytes").to_numpy()[order]

    def stretch_bytes(
        self, whole: RowidRange, *, window: int, step: int, overhead: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The last rowid of each stretch of `step` rowids, and bytes of its rows with their overhead, as in `sql`."""
        query = sql.stretch_bytes(self.table, self.lanes, whole, window=window, step=step, overhead=overhead)
        arrow = self._query([query])
        return arrow.column("rowid").to_numpy(), arrow.column("bytes").to_numpy()

    def sample(self, window: RowidRange, *, step: int) -> Sample:
        """What the rows at every `step`-th rowid of the window weigh."""
        row = self._query([sql.sample_bytes(self.table, self.lanes, window, step=step)]).to_pylist()[0]
        return Sample(row["rows"], row["bytes"])

    def count(self, piece: RowidRange) -> int:
        """How many rows there are in the piece."""
        return int(self._query([sql.count(self.table, piece)]).column("rows")[0].as_py())

    def _query(self, queries: Sequence[str]) -> pa.Table:
        try:
            table: pa.Table = connectorx.read_sql(self._uri, list(queries), return_type="arrow")
        except RuntimeError as error:
            message = str(error).splitlines()[0]
            refused = _REFUSED_CELL.search(message)
            if refused:
                raise _CellRefused(message, int(refused[1])) from None
            reason = message.partition(" in SELECT")[0].partition(" in WITH")[0]
            raise self._error(
                f"reading failed ({reason}); nothing is lost, run again when the source can be read"
            ) from None
        except BaseException as error:
            # connectorx panics past 2 GiB of text in one of its batches; the panic's class cannot be imported.
            if type(error).__name__ != "PanicException":
                raise
            raise _TooMuch from None
        return table

    def _error(self, what: str) -> EtlError:
        return EtlError(f"SOURCE_DB={self.path}, TABLE_NAME={self.table.name}: {what}")


class _TooMuch(Exception):
    """More bytes in one read than connectorx can hold."""


class _CellRefused(Exception):
    def __init__(self, message: str, result_column: int) -> None:
        super().__init__(message)
        self.result_column = result_column


def _in_rowid_order(batches: Sequence[pa.RecordBatch]) -> pl.DataFrame:
    """The record batches' rows in rowid order: they come as their queries end, each from within one partition."""
    ordered = sorted(batches, key=lambda batch: batch.column(ROWID)[-1].as_py())  # a sentinel is a query's first row
    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(ordered), rechunk=False))
    return frame.rechunk()  # of views, hardly more than pointers; a gather from many chunks costs four times as much
