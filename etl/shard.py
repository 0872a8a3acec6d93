"""One shard file: what it is, what its ledger holds, and rows and ledger lines going in together."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pyarrow as pa

from etl import budget, sql
from etl.connection import Connection, ShardError
from etl.errors import Refused
from etl.model import Identity, Index, LedgerLine, RowidRange, Table

_LEDGER_SCHEMA = pa.schema(
    {
        "first_rowid": pa.int64(),
        "last_rowid": pa.int64(),
        "rows": pa.int64(),
        "run_id": pa.string(),
        "committed_at": pa.string(),
    }
)
_OPTIMIZE_ALL_TABLES = 0x10002


@dataclass(frozen=True, slots=True)
class Found:
    """What an existing shard file holds."""

    coverage: tuple[RowidRange, ...]
    """The windows of its ledger, adjacent ones merged."""
    rows: int
    """All rows, as the ledger has them."""
    finished: bool
    """Whether it has its indexes and serves in WAL mode."""


class Shard:
    """A shard that belongs to one thread. Rows and lines wait in its transaction until `commit`."""

    def __init__(self, path: Path, table: Table, identity: Identity) -> None:
        self.path = path
        self._table = table
        self._identity = identity
        self._connection: Connection | None = None
        self._lines: list[tuple[RowidRange, int]] = []
        self._in_transaction = False
        self._rows = 0
        self._oldest = 0.0

    # -- before the load -----------------------------------------------------------------------------------------------

    def find(self, indexes: Sequence[Index]) -> Found | None:
        """What the file holds; None where there is none, or an empty one, to be created. Writes nothing.

        Raises Refused where the file is not ours, or was made under other settings.
        """
        if not self.path.exists():
            return None
        if not self.path.is_file():
            raise Refused(f"{self.path}: expected a shard of ours, found something that is no file; move it away")
        try:
            with Connection(self.path, cache_kib=budget.cache_kib(1)) as connection:
                names = {name for (name,) in connection.execute(sql.SELECT_NAMES)}
                if not names:
                    return None  # a run was killed before its first commit here
                self._check_identity(self._identity_in(connection, names))
                islands = connection.execute(sql.SELECT_COVERAGE)
                return Found(
                    coverage=tuple(RowidRange(first, last) for first, last, _ in islands),
                    rows=sum(rows for _, _, rows in islands),
                    finished={index.name for index in indexes} <= names and connection.pragma("journal_mode") == "wal",
                )
        except ShardError as error:
            if "not a database" in str(error):
                raise Refused(f"{self.path}: expected a shard of ours, found no database; move it away") from None
            raise

    def _identity_in(self, connection: Connection, names: Collection[str]) -> Identity:
        rows = connection.execute(sql.SELECT_IDENTITY) if {sql.IDENTITY_TABLE, sql.WINDOWS_TABLE} <= set(names) else []
        if [len(row) for row in rows] != [len(fields(Identity))]:
            raise Refused(f"{self.path}: expected a shard of ours, found another database; move it away")
        return Identity(*rows[0])

    def _check_identity(self, found: Identity) -> None:
        differing = [
            f"{field.name} {getattr(found, field.name)!r} in the shard, {getattr(self._identity, field.name)!r} now"
            for field in fields(Identity)
            if getattr(found, field.name) != getattr(self._identity, field.name)
        ]
        if differing:
            raise Refused(
                f"{self.path}: made under other settings: {'; '.join(differing)}; set them back, or choose an empty "
                "SHARD_DIR"
            )

    def create(self) -> None:
        """Creates the file with the table, the identity and an empty ledger, in one transaction."""
        with Connection(self.path, cache_kib=budget.cache_kib(1)) as connection:
            connection.pragma("encoding", f"'{self._table.encoding}'")  # before anything is written: fixed from then on
            connection.pragma("journal_mode", "TRUNCATE")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(self._table.ddl)
            connection.execute(sql.CREATE_IDENTITY)
            connection.execute(sql.CREATE_WINDOWS)
            names = [field.name for field in fields(Identity)]
            values = [pa.array([value]) for value in astuple(self._identity)]
            connection.executemany(sql.INSERT_IDENTITY, pa.record_batch(values, names=names))
            connection.pragma("user_version", self._table.user_version)
            connection.pragma("application_id", self._table.application_id)
            connection.execute("COMMIT")

    def windows_outside(self, coverage: Sequence[RowidRange]) -> list[LedgerLine]:
        """The ledger's lines that no range of the coverage holds."""
        with Connection(self.path, cache_kib=budget.cache_kib(1)) as connection:
            rows = connection.execute(sql.windows_outside(coverage))
        return [LedgerLine(RowidRange(first, last), *rest) for first, last, *rest in rows]

    # -- the load ------------------------------------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._lines)

    @property
    def rows_waiting(self) -> int:
        """Rows inserted since the last commit."""
        return self._rows

    @property
    def seconds_waiting(self) -> float:
        """How long the oldest uncommitted window has waited."""
        return time.monotonic() - self._oldest if self._lines else 0.0

    def insert(self, rows: pa.Table, statement: str, *, cache_kib: int) -> None:
        """Adds rows, sorted by rowid, to the open transaction; opens file and transaction where they are not."""
        self._begin(cache_kib).executemany(statement, rows)
        self._rows += rows.num_rows

    def note(self, window: RowidRange, rows: int) -> None:
        """Has the window's ledger line written by the next commit; all of its rows have been inserted."""
        if not self._lines:
            self._oldest = time.monotonic()
        self._lines.append((window, rows))

    def commit(self, run_id: str, committed_at: str, *, cache_kib: int) -> list[RowidRange]:
        """Commits rows and lines (there must be some) together; the windows that are now done in this shard."""
        connection = self._begin(cache_kib)
        firsts, lasts, rows = zip(*((w.first_rowid, w.last_rowid, rows) for w, rows in self._lines), strict=True)
        count = len(self._lines)
        texts = (pa.array([text] * count, pa.string()) for text in (run_id, committed_at))
        columns = [*(pa.array(column, pa.int64()) for column in (firsts, lasts, rows)), *texts]
        connection.executemany(sql.INSERT_WINDOW, pa.record_batch(columns, schema=_LEDGER_SCHEMA))
        connection.execute("COMMIT")
        done = [window for window, _ in self._lines]
        self._lines, self._rows, self._in_transaction = [], 0, False
        return done

    def close(self) -> None:
        """Closes the file; what has not been committed is rolled back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._lines, self._rows, self._in_transaction = [], 0, False

    def _begin(self, cache_kib: int) -> Connection:
        if self._connection is None:
            self._connection = Connection(self.path, cache_kib=cache_kib)
            if self._connection.pragma("journal_mode") != "wal":
                self._connection.pragma("journal_mode", "TRUNCATE")
        if not self._in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
            self._in_transaction = True
        return self._connection

    # -- after the load ------------------------------------------------------------------------------------------------

    def finish(self, indexes: Sequence[Index], stop: threading.Event) -> bool:
        """Creates the indexes that are missing, gathers the planner's statistics, and turns to WAL for serving.

        Between two indexes it heeds `stop`; gives whether it came to the end.
        """
        with Connection(self.path, cache_kib=budget.cache_kib(1)) as connection:
            names = {name for (name,) in connection.execute(sql.SELECT_NAMES)}
            for index in indexes:
                if stop.is_set():
                    return False
                if index.name not in names:
                    connection.execute(index.sql)
            connection.pragma("optimize", _OPTIMIZE_ALL_TABLES)
            connection.pragma("journal_mode", "WAL")
            return True
