"""One shard read by a verification: its schema and ledger through ADBC, its rows through connectorx.

Each closes the file before the next opens it: in one process a file belongs to one copy of SQLite at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

import polars as pl

from etl.core import ranges
from etl.core.columns import ROWID, ReadTypes
from etl.core.errors import EtlError
from etl.core.model import ReadTask, ReadType, RowidRange, Table
from etl.runtime import limits
from etl.shards import ledger_arrays
from etl.shards.ledger_arrays import Ledger
from etl.sources import sql as source_sql
from etl.sources.reader import Source
from etl.sources.row_stream import Portion
from etl.sqlite import sql, stdlib
from etl.sqlite.adbc import Connection
from etl.sqlite.ddl import without_not_null

NEXT_STEP = "move the file away and run migrate, which rebuilds only this shard"
SMALL_ROWS = 20_000
"""Up to this number of rows are read without connectorx, which leaves three idle threads for 30 s after each call."""

_SEQUENCE = "sqlite_sequence"
_CHECKERS = 2
"""Files checked at the same time. integrity_check needs a large cache, and they share the budget for it."""

_TYPES: dict[ReadType, tuple[type, ...]] = {
    ReadType.INTEGER: (int,),
    ReadType.REAL: (float,),
    ReadType.TEXT: (str,),
    ReadType.BLOB: (bytes,),
    ReadType.VARIANT: (int, int, float, bytes),
}
_DTYPES = {int: pl.Int64, float: pl.Float64, str: pl.String, bytes: pl.Binary}


@dataclass(frozen=True, slots=True)
class ShardSchema:
    """A shard's schema, header and ledger."""

    statements: dict[str, str]
    """Table or index → its CREATE statement."""
    names: tuple[tuple[str, str], ...]
    """Type and name of each table, index, trigger and view."""
    header: dict[str, object]
    ledger: Ledger
    unsequenced: int | None
    """The greatest rowid, where it is above 0 and sqlite_sequence has none or a lower one for the table."""


class ShardReader:
    """One shard's file."""

    def __init__(self, path: Path, table: Table) -> None:
        self.path = path
        self._table = table

    def schema(self) -> ShardSchema:
        with Connection(self.path, cache_kib=limits.cache_kib(1)) as connection:
            objects = connection.execute(sql.SELECT_SCHEMA)
            statements = {name: text for kind, name, text in objects if text and kind in {"table", "index"}}
            names = ("journal_mode", "encoding", "user_version", "application_id")
            header = {name: connection.pragma(name) for name in names}
            counted = connection.execute(sql.unsequenced(self._table)) if _SEQUENCE in statements else []
            return ShardSchema(
                statements,
                tuple((kind, name) for kind, name, _ in objects),
                header,
                ledger_arrays.read(connection),
                counted[0][0] if counted else None,
            )

    def pieces(self, coverage: ranges.Coverage, *, rows: int) -> tuple[Ledger, list[RowidRange]]:
        """Its ledger, and these ranges cut into pieces of at most `rows` rows."""
        with Connection(self.path, cache_kib=limits.cache_kib(1)) as connection:
            return ledger_arrays.read(connection), self._pieces(connection, coverage, rows)

    def rows(self, pieces: Sequence[RowidRange], *, read_types: ReadTypes, expected: int) -> Iterator[Portion]:
        """The rows of these pieces, about `expected` rows in all. The first piece is tried with these read types.

        The file is closed whenever a portion is yielded. Raises EtlError with its path where it cannot be read.
        """
        # A generated key must be computed by the same copy of SQLite on both sides.
        is_small = expected <= SMALL_ROWS * len(pieces) and not self._table.key.generated
        yield from self._small(pieces, read_types) if is_small else self._large(pieces, read_types)
        # A read-only connection leaves -wal and -shm behind; one that may write removes them when it closes.
        with Connection(self.path, cache_kib=limits.cache_kib(1)) as connection:
            connection.execute(sql.SELECT_NAMES)

    def _large(self, pieces: Sequence[RowidRange], read_types: ReadTypes) -> Iterator[Portion]:
        reader = _Reader(self.path, self._table)
        for piece in pieces:
            result = reader.read(ReadTask((piece,), ranges.cut_evenly(piece, -(-piece.span // 2))), read_types)
            read_types = result.read_types
            yield Portion(piece, result.frame, read_types)

    def fault(self, *, quick: bool) -> EtlError | None:
        """What integrity_check, or quick_check, finds wrong with the file."""
        try:
            with Connection(self.path, cache_kib=limits.CACHE_BYTES // _CHECKERS >> 10) as connection:
                check = f"PRAGMA {'quick' if quick else 'integrity'}_check"
                rows = connection.execute(check)
                if any(line.startswith("NULL value in ") for (line,) in rows):
                    # The source's rows may break NOT NULL too, and are compared cell by cell. SQLite stops after 100
                    # faults, so it must not count these. Closing the connection rolls the change back.
                    connection.execute("BEGIN")
                    connection.replace_ddl(self._table, without_not_null(self._table.ddl))
                    rows = connection.execute(check)
        except EtlError as error:
            return error
        damage = [line for (line,) in rows if line != "ok"]
        return EtlError(f"{self.path}: {' '.join(damage[0].split())}; {NEXT_STEP}") if damage else None

    def _pieces(self, connection: Connection, coverage: ranges.Coverage, rows: int) -> list[RowidRange]:
        first, last = connection.execute(sql.ends(self._table))[0]
        if first is None:
            return []
        pieces = []
        for whole in ranges.split_at_zero(ranges.intersect(coverage, (RowidRange(first, last),))):
            start = whole.first_rowid
            for end in connection.fetch(source_sql.boundaries(self._table, whole, rows=rows)).column(0).to_pylist():
                pieces.append(RowidRange(start, end))
                start = end + 1
            if start <= whole.last_rowid:
                pieces.append(RowidRange(start, whole.last_rowid))
        return pieces

    def _small(self, pieces: Sequence[RowidRange], read_types: ReadTypes) -> Iterator[Portion]:
        """The rows through Python's own SQLite, with these read types, or all as variants where a cell does not fit."""
        for piece in pieces:
            frame = self._frame(piece, read_types)
            if frame is None:
                read_types = ReadTypes(tuple(ReadType.VARIANT for _ in self._table.carried))
                frame = self._frame(piece, read_types)
            if frame is None:
                raise _unreadable(self.path, "cells change while they are read")
            yield Portion(piece, frame, read_types)

    def _frame(self, piece: RowidRange, read_types: ReadTypes) -> pl.DataFrame | None:
        """A piece's rows; None where a cell does not fit its read type."""
        try:
            with closing(stdlib.connect(self.path)) as database:
                rows = database.execute(source_sql.rows(self._table, read_types, piece)).fetchall()
        except sqlite3.OperationalError as error:
            if "decode" in str(error):
                return None  # a text that is no UTF-8
            raise _unreadable(self.path, str(error)) from None
        except sqlite3.Error as error:
            raise _unreadable(self.path, str(error)) from None
        columns = list(zip(*rows, strict=True)) or [()] * read_types.width
        frame = {}
        for (name, cell_type), cells in zip(_cell_types(read_types), columns, strict=True):
            if not set(map(type, cells)) <= {cell_type, NoneType}:
                return None
            frame[name] = pl.Series(name, cells, dtype=_DTYPES[cell_type])
        return pl.DataFrame(frame)


def keeps_sequence(table: Table) -> bool:
    """Whether the table is AUTOINCREMENT. No PRAGMA says so, but only such a table creates sqlite_sequence."""
    with Connection(Path(":memory:"), cache_kib=limits.cache_kib(1), uri=":memory:") as connection:
        connection.execute(table.ddl)
        return (_SEQUENCE,) in connection.execute(sql.SELECT_NAMES)


@contextmanager
def checkers() -> Iterator[ThreadPoolExecutor]:
    """Threads for `ShardReader.fault` while rows are compared; checks that have not begun when it ends are dropped."""
    with ThreadPoolExecutor(_CHECKERS, thread_name_prefix="etl") as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Reader(Source):
    """A shard's table, read like the source's."""

    def _error(self, what: str) -> EtlError:
        return _unreadable(self.path, what.partition(";")[0])


def _unreadable(path: Path, reason: str) -> EtlError:
    next_step = "close the program that holds it and run again" if "locked" in reason else NEXT_STEP
    return EtlError(f"{path}: cannot be read ({reason}); {next_step}")


def _cell_types(read_types: ReadTypes) -> Iterator[tuple[str, type]]:
    """Each column of a frame with these read types, and the Python type of its cells."""
    yield ROWID, int
    for position, read_type in enumerate(read_types.types):
        yield from zip(read_types.frame_columns(position), _TYPES[read_type], strict=True)
