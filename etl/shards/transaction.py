"""Rows and ledger lines of one shard, committed together."""

from __future__ import annotations

import time

import pyarrow as pa

from etl.core.errors import EtlError
from etl.core.model import RowidRange
from etl.shards import ledger, unique
from etl.shards.shard import Shard
from etl.sqlite.adbc import Connection

_LEDGER_SCHEMA = pa.schema(
    {
        "first_rowid": pa.int64(),
        "last_rowid": pa.int64(),
        "rows": pa.int64(),
        "run_id": pa.string(),
        "committed_at": pa.string(),
    }
)


class Transaction:
    """One shard's transactions, one after the other. The file is opened for the first and stays open until `close`."""

    def __init__(self, shard: Shard, *, cache_kib: int) -> None:
        self._shard = shard
        self._cache_kib = cache_kib
        self._connection: Connection | None = None
        self._begun = False
        self._relaxed = ""
        """The table's CREATE text, while NOT NULL is taken off it."""
        self._lines: list[tuple[RowidRange, int]] = []
        self._oldest = 0.0
        self._changes = 0
        """`Connection.changes` before the first row is inserted."""
        self.rows = 0
        """Rows inserted since the last commit."""

    @property
    def is_waiting(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._lines)

    @property
    def seconds_waiting(self) -> float:
        """How long the oldest uncommitted window has waited."""
        return time.monotonic() - self._oldest if self._lines else 0.0

    def insert(self, rows: pa.Table, statement: str, *, breaks_not_null: bool) -> None:
        """Inserts rows, sorted by rowid. Where they break NOT NULL, it is taken off the table until the commit."""
        connection = self._begin()
        if breaks_not_null and not self._relaxed:
            before = connection.changes()
            self._relaxed = connection.relax_not_null(self._shard.table)
            self._changes += connection.changes() - before
        unique.insert(
            connection,
            self._shard.table,
            rows.column(0).to_numpy(),
            lambda conflict: connection.executemany(statement.replace("OR ABORT", f"OR {conflict}", 1), rows),
        )
        self.rows += rows.num_rows

    def note(self, window: RowidRange, rows: int) -> None:
        """Notes a window whose rows are all inserted; the next commit writes its ledger line."""
        if not self._lines:
            self._oldest = time.monotonic()
        self._lines.append((window, rows))

    def commit(self, run_id: str, committed_at: str) -> tuple[RowidRange, ...]:
        """Commits rows and ledger lines together; returns the windows that are now done in this shard.

        Raises EtlError where the number of inserted rows is not the sum of the lines; then nothing is committed.
        """
        connection = self._begin()
        expected, found = sum(rows for _, rows in self._lines), connection.changes() - self._changes
        if found != expected:
            raise EtlError(
                f"{self._shard.path}: expected {expected} rows to be inserted, found {found}; the transaction was "
                "rolled back; run python -m etl.verify, then run again"
            )
        windows = tuple(window for window, _ in self._lines)
        columns = [
            pa.array([window.first_rowid for window in windows]),
            pa.array([window.last_rowid for window in windows]),
            pa.array([rows for _, rows in self._lines]),
            pa.array([run_id] * len(windows)),
            pa.array([committed_at] * len(windows)),
        ]
        connection.executemany(ledger.INSERT_WINDOW, pa.record_batch(columns, schema=_LEDGER_SCHEMA))
        if self._relaxed:
            connection.replace_ddl(self._shard.table, self._relaxed)
        connection.execute("COMMIT")
        self._reset()
        return windows

    def close(self) -> None:
        """Closes the file; what is not committed is rolled back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._reset()

    def _reset(self) -> None:
        self._lines, self.rows, self._begun, self._relaxed = [], 0, False, ""

    def _begin(self) -> Connection:
        if self._connection is None:
            self._connection = self._shard.connect(cache_kib=self._cache_kib)
        if not self._begun:
            self._shard.begin(self._connection)
            self._changes = self._connection.changes()
            self._begun = True
        return self._connection
