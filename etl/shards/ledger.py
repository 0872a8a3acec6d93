"""The format of a shard file: `_etl_identity` and the ledger `_etl_windows`, their SQL and their one reader.

The functions read through either SQLite that may have the file open: ADBC's, or the standard library's.
`ledger_arrays` reads a whole ledger at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from etl.core import ranges
from etl.core.errors import Refused
from etl.core.model import IDENTITY_TABLE, WINDOWS_TABLE, Identity, LedgerLine, RowidRange, Table
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
_SELECT_FIRST_LINE = f"SELECT min(w.run_id), min(w.committed_at) FROM main.{WINDOWS_TABLE} AS w"
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
class FirstLine:
    """The beginning of a ledger: its earliest run, and its earliest commit (ISO 8601)."""

    run_id: str
    committed_at: str


def names(database: Database) -> set[str]:
    """The names of all tables and indexes."""
    return {name for (name,) in database.execute(sql.SELECT_NAMES)}


def identity(database: Database, path: Path) -> Identity:
    """Raises Refused where the file is no shard of this version."""
    if not {IDENTITY_TABLE, WINDOWS_TABLE} <= names(database):
        raise Refused(f"{path}: expected a shard, found another database; move it away and run the migration again")
    rows = list(database.execute(_SELECT_IDENTITY))
    if [len(row) for row in rows] != [len(fields(Identity))]:
        raise Refused(f"{path}: expected a shard of this version's format, found another format; move it away")
    return Identity(*rows[0])


def serves(database: Database) -> bool:
    """Whether the file is in WAL mode: the shard was finished once, and may have been loaded further since."""
    ((mode,),) = database.execute("PRAGMA journal_mode")
    return bool(mode == "wal")


def coverage(database: Database) -> tuple[ranges.Coverage, int]:
    """The ledger's windows, adjacent ones merged, and their rows."""
    islands = list(database.execute(_SELECT_COVERAGE))
    return tuple(RowidRange(first, last) for first, last, _ in islands), sum(rows for _, _, rows in islands)


def first_line(database: Database) -> FirstLine | None:
    """None while the ledger is empty."""
    ((run_id, committed_at),) = database.execute(_SELECT_FIRST_LINE)
    return None if run_id is None else FirstLine(run_id, committed_at)


def lines(database: Database, *, outside: Sequence[RowidRange] = ()) -> list[LedgerLine]:
    """The ledger's lines that are in none of these ranges, ascending."""
    pieces = ", ".join(f"({piece.first_rowid}, {piece.last_rowid})" for piece in outside) or "(1, 0)"
    inside = "SELECT 1 FROM piece AS p WHERE w.first_rowid >= p.column1 AND w.last_rowid <= p.column2"
    statement = (  # an OR for each range would exceed SQLite's limit of depth, 1,000
        f"WITH piece AS (VALUES {pieces}) "
        f"SELECT w.* FROM main.{WINDOWS_TABLE} AS w WHERE NOT EXISTS ({inside}) ORDER BY w.first_rowid"
    )
    return [LedgerLine(RowidRange(first, last), *rest) for first, last, *rest in database.execute(statement)]


def deletions(table: Table, coverage: ranges.Coverage) -> Iterator[str]:
    """The statements that delete the rows of these ranges, and the ledger's lines that reach into them."""
    for piece in coverage:
        yield sql.delete_rows(table, piece)
        reaches = f"w.first_rowid <= {piece.last_rowid} AND w.last_rowid >= {piece.first_rowid}"
        yield f"DELETE FROM main.{WINDOWS_TABLE} AS w WHERE {reaches}"
