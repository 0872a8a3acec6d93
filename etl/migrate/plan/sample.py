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
"""In a file of up to this size, rows are counted, which takes less than a second; in a larger one, estimated."""
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
    if rowids is None:
        return Sample(0, {}, KeySample(), Count(0, is_exact=True), Count(0, is_exact=True), ())
    row_bytes = _row_bytes(Source(path, table), rowids)
    try:
        with closing(stdlib.connect(path)) as database:
            database.text_factory = bytes  # a text need not be UTF-8
            return _take(database, table, rowids, backlog, row_bytes=row_bytes, range_rows=range_rows)
    except sqlite3.Error as error:
        raise EtlError(f"SOURCE_DB={path}: cannot be read now ({error}); try again later") from None


def _row_bytes(source: Source, rowids: RowidRange) -> float:
    """Mean bytes of a row's texts and blobs, at points spread over the table; if those have no row, at its start."""
    read_types = first_read_types(source.table)
    sample = source.sample(rowids, read_types, step=-(-rowids.span // (_PROBES * _ROWS_PER_PROBE)))
    if sample.rows:
        return sample.bytes / sample.rows
    _, weights = source.row_bytes(rowids, read_types, rows=_ROWS_PER_PROBE)
    return float(weights.mean())


def _take(
    database: sqlite3.Connection,
    table: Table,
    rowids: RowidRange,
    backlog: ranges.Coverage,
    *,
    row_bytes: float,
    range_rows: int,
) -> Sample:
    names = [column.name for column in reversed(table.columns)]  # the last first: see `ReadTypes.grouped`
    classes: dict[str, Counter[str]] = {name: Counter() for name in names}
    key, sampled = KeySample(), 0
    probes = ranges.cut_evenly(rowids, -(-rowids.span // _PROBES))  # of each range the first rows are read
    rows_per_probe = max(1, min(_ROWS_PER_PROBE, _MAX_CELLS // (_PROBES * len(names))))
    for probe in probes:
        for offset in range(0, len(names), _COLUMNS_AT_ONCE):
            some = names[offset : offset + _COLUMNS_AT_ONCE]
            for row in database.execute(sql.sample(table, some, probe, rows=rows_per_probe)):
                if not offset:
                    key.add(row[0])
                    sampled += 1
                for name, storage_class in zip(some, row[1:], strict=True):
                    classes[name][storage_class.decode()] += 1
    file_bytes = _number(database, "PRAGMA page_count") * _number(database, "PRAGMA page_size")
    if file_bytes <= _COUNTED_BYTES:
        rows, rows_todo = (
            Count(sum(_number(database, sql.count(table, each)) for each in part), is_exact=True)
            for part in ((rowids,), backlog)
        )
    else:
        density = _density(database, table, probes)
        most = file_bytes / (row_bytes + 2)  # a row has at least a byte of length and one of rowid
        rows, rows_todo = (
            Count(round(min(most, density * sum(each.span for each in part))), is_exact=False)
            for part in ((rowids,), backlog)
        )
    fitting = max(1, min(range_rows, int((16 << 20) / (row_bytes + 16 * len(names)))))
    parts: ranges.Coverage = ()
    for start in ranges.split_at_zero(probes[:: max(1, len(probes) // _RANGES)][:_RANGES]):
        part = _range(database, table, start.first_rowid, rowids.last_rowid, fitting)
        parts += ranges.subtract((part,), parts) if part else ()
    return Sample(sampled, classes, key, rows, rows_todo, parts)


def _number(database: sqlite3.Connection, statement: str) -> int:
    return int(database.execute(statement).fetchone()[0])


def _density(database: sqlite3.Connection, table: Table, probes: Sequence[RowidRange]) -> float:
    """The share of rowids that have a row: the first rows of each range ÷ the rowids that they span."""
    share = 0.0
    for probe in probes:
        rows, last = database.execute(sql.reach(table, probe, rows=_ROWS_PER_PROBE)).fetchone()
        span = last - probe.first_rowid + 1 if rows == _ROWS_PER_PROBE else probe.span
        share += rows / span * probe.span
    return share / sum(probe.span for probe in probes)


def _range(database: sqlite3.Connection, table: Table, first: int, last: int, rows: int) -> RowidRange | None:
    """The range of this many rows from `first` on; None if there are none. It does not cross from −1 to 0."""
    rest = RowidRange(first, min(last, -1) if first < 0 else last)
    found, last_found = database.execute(sql.reach(table, rest, rows=rows)).fetchone()
    return RowidRange(first, last_found) if found else None
