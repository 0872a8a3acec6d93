"""What an existing shard file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from etl.core import ranges
from etl.core.model import IDENTITY_TABLE, SCHEMA_TABLE, WINDOWS_TABLE, Index, Seal, Table, folded
from etl.shards import ledger, schema_record
from etl.shards.ledger import FirstRun
from etl.shards.schema_record import SchemaRecord
from etl.sqlite import sql
from etl.sqlite.adbc import Connection
from etl.sqlite.ddl import same_index


@dataclass(frozen=True, slots=True)
class ShardIndexes:
    """The indexes of a shard's table, beside those of a finished shard."""

    missing: tuple[Index, ...] = ()
    """To be created; of some there is another of the same name."""
    outdated: tuple[Index, ...] = ()
    """To be dropped: others of the same name, and those that a run created and no run needs any more."""
    current: Mapping[str, str] = field(default_factory=dict)
    """Those that are as they should be: name → CREATE text."""


@dataclass(frozen=True, slots=True)
class ShardContents:
    """What an existing shard file holds."""

    coverage: ranges.Coverage
    """The windows of its ledger, adjacent ones merged."""
    rows: int
    """The rows of all windows, by the ledger."""
    indexes: ShardIndexes
    serves: bool
    """Whether it is in WAL mode (`ledger.serves`)."""
    first_run: FirstRun | None
    """None while the ledger is empty."""
    lines: int = 0
    """The number of its ledger's lines."""
    last_row: int | None = None
    """The greatest rowid of its windows that has a row."""
    triggers: tuple[str, ...] = ()
    """Triggers on the tables that a run writes."""
    ddl: str | None = None
    """The CREATE text of its table."""
    unfilled: frozenset[str] = frozenset()
    """New columns whose values old rows do not have yet."""
    seal: Seal | None = None
    """Since the cut-over."""

    @property
    def is_finished(self) -> bool:
        """Whether it has its indexes and no others of a run, and serves."""
        return self.serves and not self.indexes.missing and not self.indexes.outdated


def read(
    connection: Connection, table: Table, indexes: Sequence[Index], *, serves: bool, seal: Seal | None
) -> ShardContents:
    statements = texts(connection)
    record = schema_record.read(connection, statements)
    coverage, rows = ledger.coverage(connection)
    return ShardContents(
        coverage=coverage,
        rows=rows,
        indexes=compared(statements, record, table, indexes),
        serves=serves,
        first_run=ledger.first_run(connection),
        lines=ledger.count(connection),
        last_row=_last_row(connection, table, coverage),
        triggers=triggers(connection, table),
        ddl=statements.get(table.name),
        unfilled=record.columns,
        seal=seal,
    )


def texts(connection: Connection) -> dict[str, str]:
    """The CREATE text of each table and index."""
    objects = connection.execute(sql.SELECT_SCHEMA)
    return {name: text for kind, name, text in objects if text and kind in {"table", "index"}}


def compared(
    statements: Mapping[str, str], record: SchemaRecord, table: Table, indexes: Sequence[Index]
) -> ShardIndexes:
    """What a shard with these CREATE texts has of the indexes, and too much."""
    names = {folded(name): name for name in statements}
    known = {table.name, *(column.name for column in table.columns)}
    missing, outdated, current = [], [], {}
    for index in indexes:
        name = names.get(folded(index.name))
        if name and same_index(statements[name], index.sql, {*known, name}):
            current[name] = statements[name]
            continue
        missing.append(index)
        if name:
            outdated.append(Index(name, statements[name]))
    wanted = {folded(index.name) for index in indexes}
    outdated += [
        Index(name, text)
        for name, text in record.indexes.items()
        if folded(name) not in wanted and statements.get(name) == text
    ]
    return ShardIndexes(tuple(missing), tuple(outdated), current)


def triggers(connection: Connection, table: Table) -> tuple[str, ...]:
    """The triggers on the tables that a run writes."""
    written = {folded(name) for name in (table.name, IDENTITY_TABLE, WINDOWS_TABLE, SCHEMA_TABLE)}
    return tuple(name for name, of_table in connection.execute(sql.SELECT_TRIGGERS) if folded(of_table) in written)


def _last_row(connection: Connection, table: Table, coverage: ranges.Coverage) -> int | None:
    if not coverage:
        return None
    rows = connection.execute(sql.last_rowids(table, coverage[-1].last_rowid, rows=1))
    return rows[0][0] if rows else None
