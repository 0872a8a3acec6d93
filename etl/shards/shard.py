"""One shard file: what it is, what its ledger holds, how it comes to be and how it is made ready to serve."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pyarrow as pa

from etl.core import ranges
from etl.core.errors import EtlError, Refused
from etl.core.model import IDENTITY_TABLE, WINDOWS_TABLE, Identity, Index, LedgerLine, RowidRange, Table, folded
from etl.runtime import limits
from etl.shards import ledger
from etl.sqlite import sql
from etl.sqlite.adbc import Connection, ShardError
from etl.sqlite.ddl import without_not_null

_OPTIMIZE = 0x10012
"""Analyse (0x2) any table that wants it (0x10000), looking at some 2,000 rows of each index (0x10)."""


@dataclass(frozen=True, slots=True)
class FirstLine:
    """The beginning of a ledger: its earliest run, and its earliest commit (ISO 8601)."""

    run_id: str
    committed_at: str


@dataclass(frozen=True, slots=True)
class Found:
    """What an existing shard file holds."""

    coverage: tuple[RowidRange, ...]
    """The windows of its ledger, adjacent ones merged."""
    rows: int
    """All rows, as the ledger has them."""
    lacking: tuple[Index, ...]
    """The indexes that it has yet to get."""
    serves: bool
    """Whether it is in WAL mode: it was finished once, and may have been loaded further since."""
    first_line: FirstLine | None
    """None while the ledger is empty."""
    last_row: int | None = None
    """The greatest rowid of its windows that has a row."""
    triggers: tuple[str, ...] = ()
    """Triggers on the tables that a run writes."""

    @property
    def finished(self) -> bool:
        """Whether it has its indexes and serves."""
        return self.serves and not self.lacking


class Shard:
    """One shard's file, used by one thread at a time."""

    def __init__(self, path: Path, table: Table, identity: Identity) -> None:
        self.path = path
        self._table = table
        self._identity = identity

    def find(self, indexes: Sequence[Index]) -> Found | None:
        """What the file holds; None where there is none, or one without tables. Writes nothing.

        Raises Refused where the file is not ours, or was made under other settings.
        """
        if not self.path.exists():
            return None
        if not self.path.is_file():
            raise Refused(f"{self.path}: expected a shard of ours, found something that is no file; move it away")
        try:
            with self.opened() as connection:
                names = {name for (name,) in connection.execute(sql.SELECT_NAMES)}
                if not names and not self._has_pages():
                    return None  # a run was killed before its first commit here
                self._check_identity(self._identity_in(connection, names))
                islands = connection.execute(ledger.SELECT_COVERAGE)
                coverage = tuple(RowidRange(first, last) for first, last, _ in islands)
                page_bytes = connection.pragma("page_size")
                found = Found(
                    coverage=coverage,
                    rows=sum(rows for _, _, rows in islands),
                    lacking=tuple(index for index in indexes if index.name not in names),
                    serves=self._serves(connection),
                    first_line=first_line(connection),
                    last_row=self._last_row(connection, coverage),
                    triggers=self._triggers(connection),
                )
        except ShardError as error:
            if "not a database" in str(error):
                raise Refused(f"{self.path}: expected a shard of ours, found no database; move it away") from None
            raise
        self._check_end(page_bytes)
        return found

    def _check_end(self, page_bytes: int) -> None:
        """Raises Refused where the file ends within a page: SQLite would take the rest of it for zeroes in silence."""
        wal = self.path.with_name(f"{self.path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            return  # a program reads the shard just now, and the last pages may still be there
        rest = self.path.stat().st_size % page_bytes
        if rest:
            raise Refused(
                f"{self.path}: expected whole pages of {page_bytes} bytes, found {rest} bytes at the end; move the "
                "file away; the next run rebuilds this shard"
            )

    def refuse_triggers(self, triggers: Sequence[str]) -> None:
        """Raises Refused where there are any: they would act on each row that is written, and none can be turned off.

        SQLite's switch for them (SQLITE_DBCONFIG_ENABLE_TRIGGER) is in its C interface only; ADBC does not offer it.
        """
        if triggers:
            raise Refused(_fault(self.path, triggers))

    def _triggers(self, connection: Connection) -> tuple[str, ...]:
        written = {folded(name) for name in (self._table.name, IDENTITY_TABLE, WINDOWS_TABLE)}
        return tuple(name for name, table in connection.execute(sql.SELECT_TRIGGERS) if folded(table) in written)

    def _last_row(self, connection: Connection, coverage: Sequence[RowidRange]) -> int | None:
        if not coverage:
            return None
        rows = connection.execute(sql.last_rowids(self._table, coverage[-1].last_rowid, rows=1))
        return rows[0][0] if rows else None

    def _identity_in(self, connection: Connection, names: Collection[str]) -> Identity:
        is_ours = {IDENTITY_TABLE, WINDOWS_TABLE} <= set(names)
        rows = connection.execute(ledger.SELECT_IDENTITY) if is_ours else []
        if [len(row) for row in rows] != [len(fields(Identity))]:
            raise Refused(f"{self.path}: expected a shard of ours, found another database; move it away")
        return Identity(*rows[0])

    def _check_identity(self, found: Identity) -> None:
        differing = [
            f"{field.name} {getattr(found, field.name)!r} in the shard, {getattr(self._identity, field.name)!r} now"
            for field in fields(Identity)
            if getattr(found, field.name) != getattr(self._identity, field.name)
            and field.name != "source"  # a file may move; its rows tell whether it is the same (`origin`)
        ]
        if differing:
            raise Refused(
                f"{self.path}: made under other settings: {'; '.join(differing)}; set them back, or choose an empty "
                "SHARD_DIR"
            )

    def windows_outside(self, coverage: Sequence[RowidRange]) -> list[LedgerLine]:
        """The ledger's lines that no range of the coverage holds."""
        with self.opened() as connection:
            rows = connection.execute(ledger.windows_outside(coverage))
        return [LedgerLine(RowidRange(first, last), *rest) for first, last, *rest in rows]

    def connect(self, *, cache_kib: int) -> Connection:
        """Opens the file for writing. A file without tables is then to be filled by `create_in`."""
        connection = Connection(self.path, cache_kib=cache_kib)
        if not self._has_pages():
            connection.pragma("encoding", f"'{self._table.encoding}'")  # both are fixed from the first write on
            connection.pragma("page_size", limits.page_bytes(self._identity.num_shards))
        if connection.pragma("journal_mode") != "wal":
            connection.pragma("journal_mode", "TRUNCATE")
        return connection

    def begin(self, connection: Connection) -> None:
        """Begins a transaction; its first statements create what a new file has not: table, identity, ledger.

        Raises EtlError where somebody has made a trigger meanwhile; within the transaction nobody can.
        """
        is_new = not self._has_pages()
        connection.execute("BEGIN IMMEDIATE")
        if is_new:
            connection.execute(self._table.ddl)
            connection.execute(ledger.CREATE_IDENTITY)
            connection.execute(ledger.CREATE_WINDOWS)
            names = [field.name for field in fields(Identity)]
            row = dict(zip(names, astuple(self._identity), strict=True))
            connection.executemany(ledger.INSERT_IDENTITY, pa.RecordBatch.from_pylist([row]))
            connection.pragma("user_version", self._table.user_version)
            connection.pragma("application_id", self._table.application_id)
        if triggers := self._triggers(connection):
            raise EtlError(_fault(self.path, triggers))

    def discard(self, windows: Sequence[RowidRange]) -> None:
        """Deletes the windows' rows and ledger lines, in one transaction."""
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            self.begin(connection)
            for piece in ranges.union(windows):
                connection.execute(sql.delete_rows(self._table, piece))
                connection.execute(ledger.delete_windows(piece))
            connection.execute("COMMIT")

    def relax(self, connection: Connection) -> None:
        """Takes NOT NULL off the table until `restore`, which must come before the commit."""
        connection.replace_ddl(self._table, without_not_null(self._table.ddl))

    def restore(self, connection: Connection) -> None:
        """Gives the table its own CREATE text again."""
        connection.replace_ddl(self._table, self._table.ddl)

    def drop(self, indexes: Sequence[Index]) -> None:
        """Drops the indexes, which `finish` will build anew: cheaper than to keep them up while many rows come."""
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for index in indexes:
                connection.execute(sql.drop(index))
            connection.execute("COMMIT")

    def finish(self, indexes: Sequence[Index], stop: threading.Event) -> int | None:
        """Creates the indexes that are missing, gathers the planner's statistics, and turns to WAL for serving.

        Between two indexes of a large shard it heeds `stop`. Gives the shard's rows, as its ledger has them, or None
        where it was stopped before the end.
        """
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            if not self._has_pages():
                self.begin(connection)
                connection.execute("COMMIT")
            rows: int = sum(rows for _, _, rows in connection.execute(ledger.SELECT_COVERAGE))
            names = {name for (name,) in connection.execute(sql.SELECT_NAMES)}
            missing = [index for index in indexes if index.name not in names]
            small = rows <= limits.INDEXED_AT_ONCE_ROWS
            if stop.is_set() and missing:
                return None
            if small:
                connection.execute("BEGIN IMMEDIATE")
            for index in missing:
                if stop.is_set() and not small:
                    return None
                connection.execute(index.sql)
            connection.pragma("optimize", _OPTIMIZE)
            if small:
                connection.execute("COMMIT")
            connection.pragma("journal_mode", "WAL")
            return rows

    def opened(self) -> Connection:
        """The file, to be looked at."""
        return Connection(self.path, cache_kib=limits.cache_kib(1))

    def _serves(self, connection: Connection) -> bool:
        return bool(connection.pragma("journal_mode") == "wal")

    def _has_pages(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0


def first_line(connection: Connection) -> FirstLine | None:
    """Where the ledger in this shard begins."""
    ((run_id, committed_at),) = connection.execute(ledger.SELECT_FIRST_LINE)
    return None if run_id is None else FirstLine(run_id, committed_at)


def _fault(path: Path, triggers: Sequence[str]) -> str:
    return (
        f"{path}: expected no trigger on the tables that a run writes, found {', '.join(triggers)}; drop it, run "
        "again, and create it anew"
    )
