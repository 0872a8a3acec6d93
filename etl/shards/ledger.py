"""SQL text of our two tables in each shard: its identity, and the ledger of its windows."""

from __future__ import annotations

from collections.abc import Sequence

from etl.core.model import IDENTITY_TABLE, WINDOWS_TABLE, RowidRange

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
SELECT_IDENTITY = f"SELECT * FROM main.{IDENTITY_TABLE}"
SELECT_WINDOWS = f"SELECT w.first_rowid, w.last_rowid, w.rows FROM main.{WINDOWS_TABLE} AS w ORDER BY w.first_rowid"

SELECT_FIRST_LINE = f"SELECT min(w.run_id), min(w.committed_at) FROM main.{WINDOWS_TABLE} AS w"

SELECT_COVERAGE = f"""SELECT min(i.first_rowid), max(i.last_rowid), sum(i.rows) FROM (
    SELECT s.*, sum(s.starts) OVER (ORDER BY s.first_rowid) AS island FROM (
        SELECT w.*, w.first_rowid IS NOT lag(w.last_rowid) OVER (ORDER BY w.first_rowid) + 1 AS starts
        FROM main.{WINDOWS_TABLE} AS w
    ) AS s
) AS i GROUP BY i.island ORDER BY 1"""
"""The ledger's windows with adjacent ones merged, and their rows."""


def windows_outside(coverage: Sequence[RowidRange]) -> str:
    """The ledger's lines that no range of the coverage holds: first_rowid, last_rowid, rows, run_id, committed_at."""
    inside = " OR ".join(
        f"(w.first_rowid >= {piece.first_rowid} AND w.last_rowid <= {piece.last_rowid})" for piece in coverage
    )
    return f"SELECT w.* FROM main.{WINDOWS_TABLE} AS w WHERE NOT ({inside or '0'}) ORDER BY w.first_rowid"


def delete_windows(piece: RowidRange) -> str:
    """Deletes the ledger's lines that reach into a range."""
    reaches = f"w.first_rowid <= {piece.last_rowid} AND w.last_rowid >= {piece.first_rowid}"
    return f"DELETE FROM main.{WINDOWS_TABLE} AS w WHERE {reaches}"
