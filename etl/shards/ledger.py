"""The format of a shard file: `_etl_identity` and the ledger `_etl_windows`, their SQL and their one reader.

The functions read through either SQLite that may have the file open: ADBC's, or the standard library's.
`ledger_arrays` reads a whole ledger at once.

A line is a window, or, after years, several neighbouring windows joined (`compaction`). A joined line has their rows,
the run that wrote the first of them, and the time when the last of them was committed.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from etl.core import ranges
from etl.core.errors import Refused
from etl.core.model import IDENTITY_TABLE, WINDOWS_TABLE, Identity, LedgerLine, RowidRange, Seal, Table
from etl.sqlite import sql

CREATE_IDENTITY = f"""CREATE TABLE {IDENTITY_TABLE} (
    source TEXT NOT NULL,
    source_table TEXT NOT NULL,
    ddl_sha256 TEXT NOT NULL,
    shard_key TEXT NOT NULL,
    num_shards INTEGER NOT NULL,
    reserved_shard INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    format_version INTEGER NOT NULL
)"""

_OPEN_FORMAT, _SEALED_FORMAT = 1, 2
_FORMAT = 7
"""The position of format_version in `_etl_identity`."""
_SEAL_COLUMNS = {"sealed_at": "TEXT", "first_id": "INTEGER", "last_id": "INTEGER"}
"""What a sealed shard has after it. A version that does not know them refuses the shard."""

CREATE_WINDOWS = f"""CREATE TABLE {WINDOWS_TABLE} (
    first_rowid INTEGER PRIMARY KEY,
    last_rowid INTEGER NOT NULL CHECK (last_rowid >= first_rowid),
    rows INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    committed_at TEXT NOT NULL
)"""

INSERT_IDENTITY = f"INSERT INTO main.{IDENTITY_TABLE} VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_WINDOW = f"INSERT INTO main.{WINDOWS_TABLE} VALUES (?, ?, ?, ?, ?)"
_SELECT_IDENTITY = f"SELECT * FROM main.{IDENTITY_TABLE}"
SELECT_WINDOWS = f"SELECT w.first_rowid, w.last_rowid, w.rows FROM main.{WINDOWS_TABLE} AS w ORDER BY w.first_rowid"
_SELECT_FIRST_RUN = f"SELECT min(w.run_id) FROM main.{WINDOWS_TABLE} AS w"
_COUNT_LINES = f"SELECT count(*) FROM main.{WINDOWS_TABLE} AS w"
EXTEND_LINE = f"""UPDATE main.{WINDOWS_TABLE} SET (last_rowid, rows, run_id, committed_at) = (
    SELECT max(w.last_rowid), sum(w.rows), min(w.run_id), max(w.committed_at)
    FROM (SELECT * FROM main.{WINDOWS_TABLE} WHERE first_rowid >= ?1 ORDER BY first_rowid LIMIT ?2) AS w
) WHERE first_rowid = ?1"""
"""Makes the line at ?1 the sum of ?2 lines. A LIMIT, because SQLite ignores the upper bound of a range where it thinks
that the table is small, and its statistics may be old."""
DELETE_LINE = f"DELETE FROM main.{WINDOWS_TABLE} WHERE first_rowid = ?"
_SELECT_COVERAGE = f"""SELECT min(i.first_rowid), max(i.last_rowid), sum(i.rows) FROM (
    SELECT s.*, sum(s.starts) OVER (ORDER BY s.first_rowid) AS island FROM (
        SELECT w.*, w.first_rowid IS NOT lag(w.last_rowid) OVER (ORDER BY w.first_rowid) + 1 AS starts
        FROM main.{WINDOWS_TABLE} AS w
    ) AS s
) AS i GROUP BY i.island ORDER BY 1"""


class Database(Protocol):
    """An open shard file."""

    def execute(self, statement: str, /) -> Iterable[Any]:
        """Gives the rows of one statement."""
        ...


@dataclass(frozen=True, slots=True)
class FirstRun:
    """The earliest run of a ledger, which created the shard's file."""

    run_id: str

    @property
    def started(self) -> str:
        """As `moment` gives it."""
        return moment(self.run_id)


def moment(text: str) -> str:
    """A time (ISO 8601, UTC) or the start of the run with this id, as digits that can be compared."""
    return "".join(re.findall(r"\d", re.split("[Z+]", text)[0]))


def names(database: Database) -> set[str]:
    """The names of all tables and indexes."""
    return {name for (name,) in database.execute(sql.SELECT_NAMES)}


def identity(database: Database, path: Path) -> Identity:
    """Raises Refused where the file is no shard, or one of a format that this version does not know."""
    if not {IDENTITY_TABLE, WINDOWS_TABLE} <= names(database):
        raise Refused(f"{path}: expected a shard, found another database; move it away and run the migration again")
    rows = list(database.execute(_SELECT_IDENTITY))
    version = rows[0][_FORMAT] if len(rows) == 1 and len(rows[0]) > _FORMAT else 0
    if isinstance(version, int) and version > _SEALED_FORMAT:
        raise Refused(
            f"{path}: expected a shard of format {_SEALED_FORMAT} at most, found format {version}; a later version of "
            "shard-migrate wrote it: install that"
        )
    widths = {_OPEN_FORMAT: _FORMAT + 1, _SEALED_FORMAT: _FORMAT + 1 + len(_SEAL_COLUMNS)}
    if len(rows) != 1 or len(rows[0]) != widths.get(version):
        raise Refused(f"{path}: expected a shard, found an _etl_identity of no known format; move it away")
    settings, seal = rows[0][: _FORMAT + 1], rows[0][_FORMAT + 1 :]
    return replace(Identity(*settings), seal=Seal(*seal) if seal else None)


def add_seal(seal: Seal) -> Iterator[str]:
    """The statements that seal a shard, which is not sealed yet."""
    for name, kind in _SEAL_COLUMNS.items():
        yield f"ALTER TABLE main.{IDENTITY_TABLE} ADD COLUMN {name} {kind}"
    values = ("NULL" if value is None else sql.literal(str(value)) for value in astuple(seal))
    assignments = (f"{name} = {value}" for name, value in zip(_SEAL_COLUMNS, values, strict=True))
    yield f"UPDATE main.{IDENTITY_TABLE} SET format_version = {_SEALED_FORMAT}, {', '.join(assignments)}"


def drop_seal() -> Iterator[str]:
    """The statements that undo `add_seal`."""
    yield f"UPDATE main.{IDENTITY_TABLE} SET format_version = {_OPEN_FORMAT}"
    for name in _SEAL_COLUMNS:
        yield f"ALTER TABLE main.{IDENTITY_TABLE} DROP COLUMN {name}"


def update_ddl(sha256: str) -> str:
    """Records the source's CREATE text in the identity."""
    return f"UPDATE main.{IDENTITY_TABLE} SET ddl_sha256 = {sql.literal(sha256)}"


def serves(database: Database) -> bool:
    """Whether the file is in WAL mode: the shard was finished once, and may have been loaded further since."""
    ((mode,),) = database.execute("PRAGMA journal_mode")
    return bool(mode == "wal")


def coverage(database: Database) -> tuple[ranges.Coverage, int]:
    """The ledger's windows, adjacent ones merged, and their rows."""
    islands = list(database.execute(_SELECT_COVERAGE))
    return tuple(RowidRange(first, last) for first, last, _ in islands), sum(rows for _, _, rows in islands)


def first_run(database: Database) -> FirstRun | None:
    """None while the ledger is empty."""
    ((run_id,),) = database.execute(_SELECT_FIRST_RUN)
    return None if run_id is None else FirstRun(run_id)


def count(database: Database) -> int:
    """The number of the ledger's lines."""
    ((lines,),) = database.execute(_COUNT_LINES)
    return int(lines)


def lines(database: Database, *, outside: Sequence[RowidRange] = ()) -> list[LedgerLine]:
    """The ledger's lines that are in none of these ranges, ascending."""
    pieces = ", ".join(f"({piece.first_rowid}, {piece.last_rowid})" for piece in outside) or "(1, 0)"
    inside = "SELECT 1 FROM piece AS p WHERE w.first_rowid >= p.column1 AND w.last_rowid <= p.column2"
    statement = (  # an OR for each range would exceed SQLite's limit of depth, 1,000
        f"WITH piece AS (VALUES {pieces}) "
        f"SELECT w.* FROM main.{WINDOWS_TABLE} AS w WHERE NOT EXISTS ({inside}) ORDER BY w.first_rowid"
    )
    return [LedgerLine(RowidRange(first, last), *rest) for first, last, *rest in database.execute(statement)]


def within(window: RowidRange, lines: Sequence[LedgerLine]) -> Sequence[LedgerLine]:
    """Of ascending lines those in the window, which overlaps no others."""
    start = bisect_left(lines, window.first_rowid, key=lambda line: line.window.first_rowid)
    end = bisect_left(lines, window.last_rowid + 1, key=lambda line: line.window.first_rowid)
    return lines[start:end]


def deletions(table: Table, coverage: ranges.Coverage) -> Iterator[str]:
    """The statements that delete the rows of these ranges, and the ledger's lines that reach into them."""
    for piece in coverage:
        yield sql.delete_rows(table, piece)
        reaches = f"w.first_rowid <= {piece.last_rowid} AND w.last_rowid >= {piece.first_rowid}"
        yield f"DELETE FROM main.{WINDOWS_TABLE} AS w WHERE {reaches}"
