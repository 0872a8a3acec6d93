"""What an existing shard file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etl.core import ranges
from etl.core.model import IDENTITY_TABLE, WINDOWS_TABLE, Index, Table, folded
from etl.shards import ledger
from etl.shards.ledger import FirstRun
from etl.sqlite import sql
from etl.sqlite.adbc import Connection


@dataclass(frozen=True, slots=True)
class ShardContents:
    """What an existing shard file holds."""

    coverage: ranges.Coverage
    """The windows of its ledger, adjacent ones merged."""
    rows: int
    """The rows of all windows, by the ledger."""
    missing_indexes: tuple[Index, ...]
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

    @property
    def is_finished(self) -> bool:
        """Whether it has its indexes and serves."""
        return self.serves and not self.missing_indexes


def read(connection: Connection, table: Table, indexes: Sequence[Index], *, serves: bool) -> ShardContents:
    names = ledger.names(connection)
    coverage, rows = ledger.coverage(connection)
    return ShardContents(
        coverage=coverage,
        rows=rows,
        missing_indexes=tuple(index for index in indexes if index.name not in names),
        serves=serves,
        first_run=ledger.first_run(connection),
        lines=ledger.count(connection),
        last_row=_last_row(connection, table, coverage),
        triggers=triggers(connection, table),
    )


def triggers(connection: Connection, table: Table) -> tuple[str, ...]:
    """The triggers on the tables that a run writes."""
    written = {folded(name) for name in (table.name, IDENTITY_TABLE, WINDOWS_TABLE)}
    return tuple(name for name, of_table in connection.execute(sql.SELECT_TRIGGERS) if folded(of_table) in written)


def _last_row(connection: Connection, table: Table, coverage: ranges.Coverage) -> int | None:
    if not coverage:
        return None
    rows = connection.execute(sql.last_rowids(table, coverage[-1].last_rowid, rows=1))
    return rows[0][0] if rows else None
