"""A connection to one shard file through ADBC: statements, PRAGMAs, and errors that name the file.

While a shard is open here, no other copy of SQLite in this process may open it, and only one thread may use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import adbc_driver_manager
import adbc_driver_sqlite.dbapi
import pyarrow as pa

from etl.core.errors import EtlError
from etl.core.model import Table
from etl.sqlite import sql
from etl.sqlite.ddl import without_not_null
from etl.sqlite.stdlib import file_uri

BUSY_TIMEOUT_MS = 5_000


class Connection:
    """One open shard file; creates the file if there is none."""

    def __init__(self, path: Path, *, cache_kib: int, uri: str | None = None) -> None:
        """Opens `uri`, SQLite's own form of a file's name, if it is given."""
        self.path = path
        with self._errors("open"):
            # Autocommit, and BEGIN by hand: the driver's own transactions cannot be IMMEDIATE.
            self._connection = adbc_driver_sqlite.dbapi.connect(uri or str(path.absolute()), autocommit=True)
        self._cursors: dict[str, Any] = {}
        self._cursor = self._connection.cursor()
        try:
            self.pragma("busy_timeout", BUSY_TIMEOUT_MS)
            self.pragma("cache_size", -cache_kib)
            self.pragma("synchronous", "FULL")
            self.pragma("foreign_keys", "OFF")  # a referenced table stays in the source
            self.pragma("ignore_check_constraints", "ON")  # the source may have rows that break its own CHECK
        except BaseException:
            self.close()
            raise

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs one statement and returns its rows: integers and text only, because the driver rounds reals."""
        with self._errors(statement.split(maxsplit=2)[0]):
            self._cursor.execute(statement)
            return list(self._cursor.fetchall())

    def fetch(self, statement: str) -> pa.Table:
        """The same as Arrow, for many rows."""
        with self._errors(statement.split(maxsplit=2)[0]):
            self._cursor.execute(statement)
            return self._cursor.fetch_arrow_table()

    def batches(self, statement: str, *, rows: int, path: Path | None = None) -> Iterator[pa.RecordBatch]:
        """The statement's rows as Arrow, so many at a time. Its columns must have no NULL.

        The driver takes a column's type from the first batch, and fails where a later cell does not fit. `path` is the
        file that an error names, if it is an attached one.
        """
        with self._errors("SELECT", path), closing(self._connection.cursor()) as cursor:
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(rows)})
            cursor.execute(statement)
            yield from cursor.fetch_record_batch()

    def attach(self, path: Path, schema: str, *, mode: str, cache_kib: int) -> None:
        """Attaches a file that exists under this name; `mode` as in `stdlib.file_uri`."""
        with self._errors("ATTACH", path):
            self.execute(f"ATTACH {sql.literal(file_uri(path, mode))} AS {schema}")
            self.pragma(f"{schema}.cache_size", -cache_kib)

    def executemany(self, statement: str, rows: pa.Table | pa.RecordBatch) -> None:
        """Runs the statement for each row of an Arrow table, from its buffers and without the GIL."""
        with self._errors("INSERT"):
            cursor = self._cursors.get(statement)
            if cursor is None:  # a cursor keeps its last statement prepared
                cursor = self._cursors[statement] = self._connection.cursor()
            cursor.executemany(statement, rows)

    def changes(self) -> int:
        """How many rows this connection has inserted, updated and deleted so far; triggers' changes count too."""
        # The driver's own row count is the number of rows it was given, not of those inserted.
        return int(self.execute("SELECT total_changes()")[0][0])

    def pragma(self, name: str, value: int | str | None = None) -> Any:
        """Sets a PRAGMA, or reads it; returns its value, if there is one."""
        rows = self.execute(f"PRAGMA {name}" if value is None else f"PRAGMA {name} = {value}")
        return rows[0][0] if rows else None

    def relax_not_null(self, table: Table) -> str:
        """Takes NOT NULL off the table, in a transaction that must put the CREATE text back; returns that text.

        SQLite has no other way to write a row that breaks NOT NULL: `ignore_check_constraints` is for CHECK only.
        """
        ((ddl,),) = self.execute(sql.select_ddl(table))
        self.replace_ddl(table, without_not_null(ddl))
        return str(ddl)

    def replace_ddl(self, table: Table, ddl: str) -> None:
        """Replaces the table's CREATE text, in a transaction."""
        self.pragma("writable_schema", "ON")
        self.execute(sql.replace_ddl(table, ddl))
        self.pragma("writable_schema", "RESET")  # reads the schema again, as this transaction has it

    def close(self) -> None:
        """Closes cursors, then the connection, which rolls back an open transaction."""
        for cursor in (*self._cursors.values(), self._cursor):
            cursor.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _errors(self, doing: str, path: Path | None = None) -> Iterator[None]:
        """Raises a driver's error as one line with the file; SQLite's messages have names in them, never values."""
        path = path or self.path
        try:
            yield
        except adbc_driver_manager.Error as error:
            reason = str(error).splitlines()[0].replace(str(path.absolute()), "the file")
            raise ShardError(f"{path}: {doing} failed ({reason}); {_next_step(reason)}") from None


def sqlite_version() -> str:
    """The version of the SQLite that writes and checks the shards."""
    with Connection(Path(":memory:"), cache_kib=1, uri=":memory:") as connection:
        return str(connection.execute("SELECT sqlite_version()")[0][0])


class ShardError(EtlError):
    """A shard file could not be read or written. Callers that expect files of other kinds catch it."""

    @property
    def is_locked(self) -> bool:
        """Whether another program holds the file: it is not damaged."""
        return "is locked)" in str(self)


_NEXT_STEPS = {
    "database or disk is full": "free some disk space and run again",
    "disk I/O error": "check the disk and the kernel's log, and run again",
    "is locked": "close the program that holds it and run again",
    "database disk image is malformed": "move the file away; the next run rebuilds this shard",
    "file is not a database": "move the file away; the next run rebuilds this shard",
    "attempt to write a readonly database": "make the file and its directory writable and run again",
    "UNIQUE constraint failed": (
        "the shard has a row that the source no longer has, or has with other values, or that no run wrote; run "
        "python -m etl.verify --repair, then run again"
    ),
    "unable to open database file": "make the file and its directory writable and run again",
    "failed to open": "make the file and its directory writable and run again",
}
"""By SQLite's own phrases (sqlite3ErrStr in main.c); a single word could be part of a name."""


def _next_step(reason: str) -> str:
    steps = (step for phrase, step in _NEXT_STEPS.items() if phrase in reason)
    return next(steps, "fix the cause and run again; the shard is as its last commit left it")
