"""A sample of the source's rows, spread over the whole table: storage classes, the shape of keys, the number of rows.

Keys are counted and measured here; none leaves this module.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from etl.core import ranges
from etl.core.columns import first_read_types
from etl.core.errors import EtlError
from etl.core.model import RowidRange, Table
from etl.core.routing import WHITE_SPACE, is_blank, key_bytes
from etl.sources import sql
from etl.sources.reader import Source
from etl.sqlite import stdlib

_PROBES = 200
_ROWS_PER_PROBE = 50
_MAX_CELLS = 1_000_000
_COLUMNS_AT_ONCE = 1_000
"""A table has up to 2,000 columns, as many as a query has result columns; a sample's query has one more."""
_COUNTED_BYTES = 256 << 20
"""In a file of up to this size rows are counted: that takes less than a second."""
_RANGES = 4


@dataclass
class KeySample:
    """The shape of the sampled keys."""

    null: int = 0
    empty: int = 0
    blank: int = 0
    """Only white space."""
    spaced: int = 0
    """White space before or after something else."""
    plus: int = 0
    """With a `+`."""
    lengths: Counter[int] = field(default_factory=Counter)
    """Of the keys that are not NULL, empty or blank: characters → keys."""

    def add(self, key: bytes | float | None) -> None:
        data = key_bytes(key)
        if key is None:
            self.null += 1
        elif not data:
            self.empty += 1
        elif is_blank(data):
            self.blank += 1
        else:
            text = data.decode("utf-8", "replace")
            self.spaced += text != text.strip(WHITE_SPACE)
            self.plus += "+" in text
            self.lengths[len(text)] += 1

    @property
    def keyless(self) -> int:
        """Keys that go to the reserved shard."""
        return self.null + self.empty + self.blank


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows, and whether it was counted or estimated."""

    rows: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """The sample, and estimates for the whole source."""

    rows: int
    classes: Mapping[str, Counter[str]]
    """Column → storage class → cells."""
    key: KeySample
    source_rows: Count
    rows_todo: Count
    ranges: Sequence[RowidRange]
    """Ranges of consecutive rows, spread over the table, for a trial load."""


def take(path: Path, table: Table, rowids: RowidRange | None, backlog: ranges.Coverage, *, range_rows: int) -> Sample:
    """Opens the file once and closes it. Raises EtlError if SQLite cannot read it now."""
    row_bytes = _row_bytes(Source(path, table), rowids)
    try:
        with closing(stdlib.connect(path)) as database:
            database.text_factory = bytes  # a text need not be UTF-8
            return _take(database, table, rowids, backlog, row_bytes=row_bytes, range_rows=range_rows)
    except sqlite3.Error as error:
        raise EtlError(f"SOURCE_DB={path}: cannot be read now ({error}); try again later") from None


def _row_bytes(source: Source, rowids: RowidRange | None) -> float:
    """Mean bytes of a row's texts and blobs, at points spread over the table; if those have no row, at its start."""
    if rowids is None:
        return 0.0
    read_types = first_read_types(source.table)
    sample = source.sample(rowids, read_types, step=-(-rowids.span // (_PROBES * _ROWS_PER_PROBE)))
    if sample.rows:
        return sample.bytes / sample.rows
    _, weights = source.row_bytes(rowids, read_types, rows=_ROWS_PER_PROBE)
    return float(weights.mean())


def _take(
    database: sqlite3.Connection,
    table: Table,
    rowids: RowidRange | None,
    backlog: ranges.Coverage,
    *,
    row_bytes: float,
    range_rows: int,
) -> Sample:
    names = [column.name for column in reversed(table.columns)]  # the last first: see `ReadTypes.grouped`
    classes: dict[str, Counter[str]] = {name: Counter() for name in names}
    key, sampled = KeySample(), 0
    cells = _cells(rowids)
    rows_per_probe = max(1, min(_ROWS_PER_PROBE, _MAX_CELLS // (_PROBES * len(names))))
    for cell in cells:
        for start in range(0, len(names), _COLUMNS_AT_ONCE):
            some = names[start : start + _COLUMNS_AT_ONCE]
            for row in database.execute(sql.sample(table, some, cell, rows=rows_per_probe)):
                if not start:
                    key.add(row[0])
                    sampled += 1
                for name, storage_class in zip(some, row[1:], strict=True):
                    classes[name][storage_class.decode()] += 1
    file_bytes = _pragma(database, "page_count") * _pragma(database, "page_size")
    whole = (rowids,) if rowids else ()
    if file_bytes <= _COUNTED_BYTES:
        rows, rows_todo = (Count(_counted(database, table, part), is_exact=True) for part in (whole, backlog))
    else:
        density = _density(database, table, cells)
        most = file_bytes / (row_bytes + 2)  # a row has at least a byte of length and one of rowid
        rows, rows_todo = (
            Count(round(min(most, density * sum(each.span for each in part))), is_exact=False)
            for part in (whole, backlog)
        )
    fitting = max(1, min(range_rows, int((16 << 20) / (row_bytes + 16 * len(names)))))
    starts = ranges.split_at_zero(tuple(cells[:: max(1, len(cells) // _RANGES)][:_RANGES]))
    found = [part for start in starts if (part := _range(database, table, start, rowids, fitting))]
    return Sample(sampled, classes, key, rows, rows_todo, _disjoint(found))


def _cells(rowids: RowidRange | None) -> tuple[RowidRange, ...]:
    """The table's rowids cut into ranges, one for each probe; a probe reads the first rows of its range."""
    return ranges.cut_evenly(rowids, -(-rowids.span // _PROBES)) if rowids else ()


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _counted(database: sqlite3.Connection, table: Table, parts: ranges.Coverage) -> int:
    return sum(int(database.execute(sql.count(table, part)).fetchone()[0]) for part in parts)


def _density(database: sqlite3.Connection, table: Table, cells: Sequence[RowidRange]) -> float:
    """The share of rowids that have a row: the first rows of each range ÷ the rowids that they span."""
    share = 0.0
    for cell in cells:
        rows, last = database.execute(sql.reach(table, cell, rows=_ROWS_PER_PROBE)).fetchone()
        span = last - cell.first_rowid + 1 if rows == _ROWS_PER_PROBE else cell.span
        share += rows / span * cell.span
    return share / max(1, sum(cell.span for cell in cells))


def _range(
    database: sqlite3.Connection, table: Table, start: RowidRange, whole: RowidRange | None, rows: int
) -> RowidRange | None:
    """A range of so many rows that begins where `start` does; None if there are none."""
    last_rowid = start.last_rowid if whole is None else whole.last_rowid
    rest = RowidRange(start.first_rowid, min(last_rowid, -1) if start.first_rowid < 0 else last_rowid)
    found, last = database.execute(sql.reach(table, rest, rows=rows)).fetchone()
    return RowidRange(start.first_rowid, last) if found else None


def _disjoint(parts: Sequence[RowidRange]) -> tuple[RowidRange, ...]:
    """The ranges in order, each without what an earlier one has."""
    apart: list[RowidRange] = []
    for part in sorted(parts):
        first = max(part.first_rowid, apart[-1].last_rowid + 1) if apart else part.first_rowid
        if first <= part.last_rowid:
            apart.append(RowidRange(first, part.last_rowid))
    return tuple(apart)
