"""SQL text of our two tables in each shard: its identity, and the ledger of its windows."""

from __future__ import annotations

from collections.abc import Sequence

from etl.model import RowidRange

IDENTITY_TABLE = "_etl_identity"
WINDOWS_TABLE = "_etl_windows"

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

INSERT_IDENTITY = f"INSERT INTO {IDENTITY_TABLE} VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_WINDOW = f"INSERT INTO {WINDOWS_TABLE} VALUES (?, ?, ?, ?, ?)"
SELECT_IDENTITY = f"SELECT * FROM {IDENTITY_TABLE}"
SELECT_WINDOWS = f"SELECT first_rowid, last_rowid, rows FROM {WINDOWS_TABLE} ORDER BY first_rowid"

SELECT_FIRST_LINE = f"SELECT min(run_id), min(committed_at) FROM {WINDOWS_TABLE}"

SELECT_COVERAGE = f"""SELECT min(first_rowid), max(last_rowid), sum(rows) FROM (
    SELECT *, sum(starts) OVER (ORDER BY first_rowid) AS island FROM (
        SELECT *, first_rowid IS NOT lag(last_rowid) OVER (ORDER BY first_rowid) + 1 AS starts FROM {WINDOWS_TABLE}
    )
) GROUP BY island ORDER BY 1"""
"""The ledger's windows with adjacent ones merged, and their rows."""


def windows_outside(coverage: Sequence[RowidRange]) -> str:
    """The ledger's lines that no range of the coverage holds: first_rowid, last_rowid, rows, run_id, committed_at."""
    inside = " OR ".join(
        f"(first_rowid >= {piece.first_rowid} AND last_rowid <= {piece.last_rowid})" for piece in coverage
    )
    return f"SELECT * FROM {WINDOWS_TABLE} WHERE NOT ({inside or '0'}) ORDER BY first_rowid"


def delete_windows(piece: RowidRange) -> str:
    """Deletes the ledger's lines that reach into a range."""
    return f"DELETE FROM {WINDOWS_TABLE} WHERE first_rowid <= {piece.last_rowid} AND last_rowid >= {piece.first_rowid}"
