"""One shard file: what it holds, how it is created, and how it is made ready to serve."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa

from etl.core import ranges
from etl.core.errors import EtlError, Refused
from etl.core.model import Identity, Index, LedgerLine, RowidRange, Seal, Table, folded
from etl.runtime import limits
from etl.shards import contents, ledger, ledger_arrays, schema_record
from etl.shards.contents import ShardContents
from etl.shards.ledger_arrays import Ledger
from etl.sqlite import sql
from etl.sqlite.adbc import Connection, ShardError

_OPTIMIZE = 0x10012
"""Analyse (0x2) any table that needs it (0x10000), reading about 2,000 rows of each index (0x10)."""


class Shard:
    """One shard's file, used by one thread at a time."""

    def __init__(self, path: Path, table: Table, identity: Identity) -> None:
        self.path = path
        self.table = table
        self._identity = identity

    def find(self, indexes: Sequence[Index]) -> ShardContents | None:
        """What the file holds; None where there is no file, or one without tables. Writes nothing.

        Raises Refused where the file is no shard, or was made with other settings.
        """
        if not self.path.exists():
            return None
        if not self.path.is_file():
            raise Refused(f"{self.path}: expected a shard file, found a directory or a device; move it away")
        try:
            with self.opened() as connection:
                if not ledger.names(connection) and not self._has_pages():
                    return None  # a run was killed before its first commit here
                identity = ledger.identity(connection, self.path)
                self._check_identity(identity)
                page_bytes = connection.pragma("page_size")
                serves = self._serves(connection)
                found = contents.read(connection, self.table, indexes, serves=serves, seal=identity.seal)
        except ShardError as error:
            if "not a database" in str(error):
                raise Refused(f"{self.path}: expected a shard, found no database; move it away") from None
            raise
        self._check_end(page_bytes)
        return found

    def _check_identity(self, found: Identity) -> None:
        # A file may move; its rows tell whether it is the same (`source_identity`). CREATE texts: `schema_drift`.
        now = self._identity.with_changes_of(found)
        differing = [
            f"{field.name} {getattr(found, field.name)!r} in the shard, {getattr(now, field.name)!r} now"
            for field in fields(Identity)
            if folded(str(getattr(found, field.name))) != folded(str(getattr(now, field.name)))
        ]
        if differing:
            raise Refused(
                f"{self.path}: made under other settings: {'; '.join(differing)}; set them back, or choose an empty "
                "SHARD_DIR"
            )

    def _check_end(self, page_bytes: int) -> None:
        """Raises Refused where the file ends within a page: SQLite would silently read the rest of it as zeroes."""
        wal = self.path.with_name(f"{self.path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            return  # a program reads the shard now, and the last pages may still be in its -wal
        rest = self.path.stat().st_size % page_bytes
        if rest:
            raise Refused(
                f"{self.path}: expected whole pages of {page_bytes} bytes, found {rest} bytes at the end; move the "
                "file away; the next run rebuilds this shard"
            )

    def refuse_triggers(self, triggers: Sequence[str]) -> None:
        """Raises Refused where there are any: they would act on each row that is written, and none can be turned off.

        SQLite's switch for them (SQLITE_DBCONFIG_ENABLE_TRIGGER) is only in its C interface; ADBC does not offer it.
        """
        if triggers:
            raise Refused(_fault(self.path, triggers))

    def windows_outside(self, coverage: ranges.Coverage) -> list[LedgerLine]:
        """The ledger's lines that are in no range of the coverage."""
        with self.opened() as connection:
            return ledger.lines(connection, outside=coverage)

    def connect(self, *, cache_kib: int) -> Connection:
        """Opens the file for writing. A file without tables is then to be filled by `begin`."""
        connection = Connection(self.path, cache_kib=cache_kib)
        if not self._has_pages():
            connection.pragma("encoding", f"'{self.table.encoding}'")  # both are fixed from the first write on
            connection.pragma("page_size", limits.page_bytes(self._identity.num_shards))
        if ledger.serves(connection):
            connection.pragma("busy_timeout", limits.SERVING_BUSY_TIMEOUT_MS)
            connection.pragma("journal_size_limit", limits.WAL_BYTES)
        else:
            connection.pragma("journal_mode", "TRUNCATE")
        return connection

    def begin(self, connection: Connection) -> None:
        """Begins a transaction. In a new file its first statements create the table, the identity and the ledger.

        Raises EtlError where another program has made a trigger meanwhile; within the transaction none can.
        """
        is_new = not self._has_pages()
        connection.execute("BEGIN IMMEDIATE")
        if is_new:
            connection.execute(self.table.ddl)
            connection.execute(ledger.CREATE_IDENTITY)
            connection.execute(ledger.CREATE_WINDOWS)
            row = asdict(self._identity)
            del row["seal"]
            connection.executemany(ledger.INSERT_IDENTITY, pa.RecordBatch.from_pylist([row]))
            connection.pragma("user_version", self.table.user_version)
            connection.pragma("application_id", self.table.application_id)
        if triggers := contents.triggers(connection, self.table):
            raise EtlError(_fault(self.path, triggers))

    def discard(self, windows: Sequence[RowidRange]) -> None:
        """Deletes the windows' rows and ledger lines, in one transaction."""
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            self.begin(connection)
            for statement in ledger.deletions(self.table, ranges.union(windows)):
                connection.execute(statement)
            connection.execute("COMMIT")

    def ledger(self) -> Ledger:
        """The whole ledger."""
        with self.opened() as connection:
            return ledger_arrays.read(connection)

    def add_columns(self, names: Iterable[str]) -> None:
        """Gives the table the source's CREATE text, which has these columns at the end; they count as unfilled then.

        ALTER TABLE does the same, but would read all rows first, and refuse some that the source has.
        """
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            self.begin(connection)
            record = schema_record.read(connection, contents.texts(connection))
            schema_record.write_columns(connection, record.columns.union(names))
            connection.replace_ddl(self.table, self.table.ddl)
            connection.pragma("schema_version", connection.pragma("schema_version") + 1)  # other programs read it again
            connection.execute("COMMIT")

    def fill_columns(self) -> None:
        """Records that old rows have the values of all columns."""
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            self.begin(connection)
            schema_record.write_columns(connection, ())
            connection.execute(ledger.update_ddl(self._identity.ddl_sha256))
            connection.execute("COMMIT")

    def seal(self, seal: Seal, *, sets_sequence: bool) -> None:
        """Gives the shard to its applications; AUTOINCREMENT gives ids of the seal's range from now on."""
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in ledger.add_seal(seal):
                connection.execute(statement)
            if sets_sequence and seal.first_id is not None:
                for statement in sql.set_sequence(self.table, seal.first_id - 1):
                    connection.execute(statement)
            connection.execute("COMMIT")

    def unseal(self) -> None:
        """Makes it a shard that runs may write to."""
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in ledger.drop_seal():
                connection.execute(statement)
            connection.execute("COMMIT")

    def last_id(self, *, is_autoincrement: bool) -> int:
        """The greatest rowid, also of rows that no run wrote, or that AUTOINCREMENT has ever given; 0 without one."""
        statements = [sql.ends(self.table), *([sql.sequence(self.table)] if is_autoincrement else [])]
        with self.opened() as connection:
            return int(max(connection.execute(statement)[0][-1] or 0 for statement in statements))

    def drop(self, indexes: Sequence[Index]) -> None:
        """Drops the indexes; `finish` builds them again. With many new rows this costs less than to update them."""
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for index in indexes:
                connection.execute(sql.drop(index))
            connection.execute("COMMIT")

    def finish(self, indexes: Sequence[Index], stop: threading.Event) -> int | None:
        """Creates the missing indexes, gathers the planner's statistics, and switches to WAL for serving.

        Before, it drops outdated ones, and records those of a run. In a large shard `stop` is checked between two
        indexes. Returns the shard's rows, by its ledger, or None where it was stopped before the end.
        """
        with self.connect(cache_kib=limits.cache_kib(1)) as connection:
            if not self._has_pages():
                self.begin(connection)
                connection.execute("COMMIT")
            _, rows = ledger.coverage(connection)
            texts = contents.texts(connection)
            record = schema_record.read(connection, texts)
            found = contents.compared(texts, record, self.table, indexes)
            planned = {index.name: index.sql for index in found.missing} | dict(found.current)
            small = rows <= limits.INDEXED_AT_ONCE_ROWS
            if stop.is_set() and found.missing:
                return None
            changes = planned != record.indexes or found.outdated
            if small or changes:
                connection.execute("BEGIN IMMEDIATE")
            if changes:
                for index in found.outdated:
                    connection.execute(sql.drop(index))
                schema_record.write_indexes(connection, planned)
            if changes and not small:
                connection.execute("COMMIT")
            for index in found.missing:
                if stop.is_set() and not small:
                    return None
                connection.execute(index.sql)
            connection.pragma("optimize", _OPTIMIZE)
            if small:
                connection.execute("COMMIT")
            connection.pragma("journal_mode", "WAL")
            return rows

    def opened(self) -> Connection:
        """The file, to be read."""
        return Connection(self.path, cache_kib=limits.cache_kib(1))

    def _serves(self, connection: Connection) -> bool:
        return ledger.serves(connection)

    def _has_pages(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0


def _fault(path: Path, triggers: Sequence[str]) -> str:
    return (
        f"{path}: expected no trigger on the tables that a run writes, found {', '.join(triggers)}; drop it, run "
        "again, and create it again"
    )
