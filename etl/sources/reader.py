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

from etl.core import ranges
from etl.core.columns import ROWID, TAGS, first_read_types
from etl.core.errors import EtlError
from etl.core.model import Affinity, ReadTask, ReadType, RowidRange, Table
from etl.sources import continuity, sql
from etl.sqlite.stdlib import read_only_uri

MAX_RESULT_COLUMNS = 2000
"""SQLite's limit (SQLITE_MAX_COLUMN), compiled into connectorx."""

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
        self.read_types = first_read_types(table)
        self._uri = "sqlite://" + url_quote(read_only_uri(path), safe="")

    @property
    def widened(self) -> tuple[str, ...]:
        """The columns that have been widened to the exact lane."""
        first = first_read_types(self.table).types
        return tuple(
            column.name
            for column, before, now in zip(self.table.carried, first, self.read_types.types, strict=True)
            if before is not now
        )

    def read(self, batch: ReadTask) -> pl.DataFrame:
        """The batch's rows in rowid order: `rowid` Int64, then the lanes' columns.

        A cell that its lane cannot carry widens that column, and every other that has such cells here, to the exact
        lane; then the batch is read again. Raises EtlError where a damaged file hides rows between two reads.
        """
        while True:
            if self.read_types.width > MAX_RESULT_COLUMNS:
                raise self._error(
                    f"carrying every cell as it is takes {self.read_types.width} result columns (one for the rowid, "
                    f"four for each column of mixed storage classes), and SQLite gives {MAX_RESULT_COLUMNS}; split the "
                    "table"
                )
            try:
                return self._checked(_in_rowid_order(self._query_in_halves(batch.partitions)))
            except _CellRefused as refused:
                position = self.read_types.position_of(refused.result_column)
                if position is None or self.read_types.types[position] is ReadType.VARIANT:
                    raise self._error(str(refused)) from None
                self.read_types = self.read_types.widened(position)
                for misfit in self._misfits(batch):
                    self.read_types = self.read_types.widened(misfit)

    def _checked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame, unless a TEXT column has a number: no sound file has, and a shard would make a text of it."""
        for position, column in enumerate(self.table.carried):
            if column.affinity is Affinity.TEXT and self.read_types.types[position] is ReadType.VARIANT:
                tags = frame[self.read_types.frame_columns(position)[0]]
                numbers = frame.filter(tags.is_in([TAGS["integer"], TAGS["real"]]))
                if numbers.height:
                    raise self._error(
                        f"the row {numbers[ROWID][0]} has a number in the TEXT column {column.name}, where SQLite "
                        "stores none: the file is damaged; PRAGMA integrity_check tells more"
                    )
        return frame

    def _misfits(self, batch: ReadTask) -> list[int]:
        """The positions of columns that have a cell in the batch which their lane cannot carry."""
        flags = self._query([sql.misfits(self.table, self.read_types, partition) for partition in batch.partitions])
        return [position for position, column in enumerate(flags.columns) if any(column.to_pylist())]

    def _query_in_halves(self, partitions: Sequence[RowidRange]) -> list[pa.RecordBatch]:
        try:
            return self._joined(partitions)
        except _TooMuch:
            pieces = ranges.halves(partitions[0]) if len(partitions) == 1 else partitions
            if len(pieces) == 1:
                raise self._error(f"the row {pieces[0].first_rowid} is too big to be read") from None
            middle = len(pieces) // 2
            return [*self._query_in_halves(pieces[:middle]), *self._query_in_halves(pieces[middle:])]

    def _joined(self, partitions: Sequence[RowidRange]) -> list[pa.RecordBatch]:
        """The partitions' rows, held to the tree at their edges."""
        arrow = self._query([sql.read(self.table, self.read_types, partition) for partition in partitions])
        batches = continuity.rows_of(arrow.to_batches(), partitions)
        if batches is None:
            raise self._error(
                f"rowids {partitions[0].first_rowid}..{partitions[-1].last_rowid}: the rows there do not follow each "
                "other as a sound file's do; PRAGMA integrity_check tells more; restore the file, and run again"
            )
        return batches

    def row_bytes(self, window: RowidRange, *, rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rowids and bytes of cells of the window's first `rows` rows (−1: of all), both of shape (rows,)."""
        arrow = self._query([sql.row_bytes(self.table, self.read_types, window, rows=rows)]).slice(1)
        order = arrow.column("rowid").to_numpy().argsort(kind="stable")
        return arrow.column("rowid").to_numpy()[order], arrow.column("bytes").to_numpy()[order]

    def stretch_bytes(
        self, whole: RowidRange, *, window: int, step: int, overhead: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The last rowid of each stretch of `step` rowids, and bytes of its rows with their overhead, as in `sql`."""
        query = sql.stretch_bytes(self.table, self.read_types, whole, window=window, step=step, overhead=overhead)
        arrow = self._query([query])
        return arrow.column("rowid").to_numpy(), arrow.column("bytes").to_numpy()

    def sample(self, window: RowidRange, *, step: int) -> Sample:
        """What the rows at every `step`-th rowid of the window weigh."""
        row = self._query([sql.sample_bytes(self.table, self.read_types, window, step=step)]).to_pylist()[0]
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
    ordered = sorted((batch for batch in batches if batch.num_rows), key=lambda batch: batch.column(ROWID)[0].as_py())
    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(ordered or batches[:1]), rechunk=False))
    return frame.rechunk()  # of views, hardly more than pointers; a gather from many chunks costs four times as much
