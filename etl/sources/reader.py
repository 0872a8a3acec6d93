"""The source table as connectorx reads it: read-only, in rowid order, and never a cell changed silently."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from etl.core import ranges
from etl.core.columns import GROUP, ROWID, TAGS, ColumnGroups, ReadTypes
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
        texts: list[int] = []  # read as variants to find out which of them have text that is no UTF-8
        while True:
            asked = read_types.widened(*texts)
            groups = asked.grouped(limits.READ_COLUMNS)
            if len(groups.groups) > 1:
                memory.return_freed_buffers(limits.WIDE_READ_BUFFER_BYTES)
            try:
                frame = pl.concat(self._read_in_halves(task.partitions, groups)).rechunk()
            except connectorx.CellRefused as refused:
                # One of these columns has such a cell; the refusal does not tell in which column group it came.
                narrow = set(groups.positions_of(refused.result_column)) - asked.variants
                if not narrow:
                    raise self._error(str(refused)) from None
                misfits = self._misfits(task, asked)
                read_types = read_types.widened(*misfits)
                if narrow.isdisjoint(misfits):  # text that is no UTF-8, or the source has changed in between
                    texts = [p for p, read_type in enumerate(read_types.types) if read_type is ReadType.TEXT]
                    read_types = read_types.widened(*narrow.difference(texts))
            else:
                frame, read_types = _as_text(frame, read_types, texts)
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

    def _read_in_halves(self, partitions: Sequence[RowidRange], groups: ColumnGroups) -> list[pl.DataFrame]:
        try:
            return [self._read_checked(partitions, groups)]
        except connectorx.TooManyBytes:
            pieces = ranges.halves(partitions[0]) if len(partitions) == 1 else partitions
            if len(pieces) == 1:
                raise self._error(f"the row {pieces[0].first_rowid} is too big to be read") from None
            middle = len(pieces) // 2
            return [
                *self._read_in_halves(pieces[:middle], groups),
                *self._read_in_halves(pieces[middle:], groups),
            ]

    def _read_checked(self, partitions: Sequence[RowidRange], groups: ColumnGroups) -> pl.DataFrame:
        """The partitions' rows in rowid order, if they follow each other without a gap."""
        arrow = self._query([sql.read(self.table, groups, partition) for partition in partitions])
        first, *others = _by_group(arrow.to_batches(), groups)
        rows = continuity.rows_of(first, partitions)
        frames = [_in_rowid_order(each, arrow.schema) for each in (rows or [], *others)]
        if rows is None or not all(frame[ROWID].equals(frames[0][ROWID]) for frame in frames):
            raise self._error(
                f"rowids {partitions[0].first_rowid}..{partitions[-1].last_rowid}: expected every row, in order, "
                "found a gap: the file is damaged; PRAGMA integrity_check tells more; restore the file, and run again"
            )
        cells = [
            frame.select(pl.col(old).alias(new) for old, new in groups.frame_names(number).items())
            for number, frame in enumerate(frames)
        ]
        return pl.concat([frames[0].select(ROWID), *cells], how="horizontal")

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


def _as_text(frame: pl.DataFrame, read_types: ReadTypes, positions: Sequence[int]) -> tuple[pl.DataFrame, ReadTypes]:
    """Columns that were read as variants, as text again where they have nothing but UTF-8 and NULL."""
    texts: list[pl.Series] = []
    variants = read_types.widened(*positions)
    mixed = []
    for position in positions:
        tag, *_, data = variants.frame_columns(position)
        text = _utf8(frame[tag], frame[data])
        if text is None:
            mixed.append(position)
        else:
            texts.append(text.alias(read_types.frame_columns(position)[0]))
    read_types = read_types.widened(*mixed)
    narrow = set(positions).difference(mixed)
    return frame.drop(name for p in narrow for name in variants.frame_columns(p)).with_columns(texts), read_types


def _utf8(tags: pl.Series, data: pl.Series) -> pl.Series | None:
    """A variant's cells as text; None if one is of another storage class, or no UTF-8."""
    try:
        return data.cast(pl.String) if tags.is_in([0, TAGS["text"]]).all() else None
    except pl.exceptions.ComputeError:
        return None


def _by_group(batches: Sequence[pa.RecordBatch], groups: ColumnGroups) -> list[list[pa.RecordBatch]]:
    """The record batches' rows, apart for each column group; those before the cells are of the first."""
    if len(groups.groups) == 1:
        return [list(batches)]
    apart: list[list[pa.RecordBatch]] = [[] for _ in groups.groups]
    for batch in batches:
        numbers = batch.column(GROUP).to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        for start, stop in pairwise([*starts, len(numbers)]):
            apart[numbers[start]].append(batch.slice(start, stop - start))
    return apart


def _in_rowid_order(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pl.DataFrame:
    """The record batches' rows in rowid order: they come as their queries end, each from within one partition."""
    ordered = sorted((batch for batch in batches if batch.num_rows), key=lambda batch: batch.column(ROWID)[0].as_py())
    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(ordered, schema), rechunk=False))
    return frame.rechunk()  # of views, hardly more than pointers; a gather from many chunks costs four times as much
