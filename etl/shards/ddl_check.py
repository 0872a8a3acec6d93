"""A shard created in memory before any on disk: it shows which of the source's statements ADBC's SQLite refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

import adbc_driver_manager
import adbc_driver_sqlite.dbapi

from etl.core.errors import Refused
from etl.core.model import Index, Table
from etl.shards import ledger
from etl.sqlite import sql

IndexedColumns = Mapping[str, tuple[str | None, ...]]
"""Each index of a finished shard (UNIQUE and PRIMARY KEY have one too) → its columns; None is an expression."""


def rehearse(table: Table, indexes: Sequence[Index]) -> IndexedColumns:
    """Creates a shard's tables and indexes with the SQLite that will write the shards.

    Raises Refused where a statement fails: it may need a collation or function that this SQLite does not have, or an
    index may have a name that the shard uses already.
    """
    statements = [table.ddl, ledger.CREATE_IDENTITY, ledger.CREATE_WINDOWS, *(index.sql for index in indexes)]
    with (
        closing(adbc_driver_sqlite.dbapi.connect(":memory:", autocommit=True)) as connection,
        closing(connection.cursor()) as cursor,
    ):
        for statement in statements:
            try:
                cursor.execute(statement)
            except adbc_driver_manager.Error as error:
                reason = str(error).splitlines()[0].rpartition("query: ")[2]
                raise Refused(
                    f"TABLE_NAME={table.name}: its CREATE statements must work in any SQLite, found one that does not "
                    f"({reason}); migrate a copy of the table without it, or, where it is an index, set "
                    "COPY_INDEXES=false"
                ) from None
        cursor.execute(sql.indexed_columns(table))
        columns: dict[str, tuple[str | None, ...]] = {}
        for index, column in cursor.fetchall():
            columns[index] = (*columns.get(index, ()), column)
        return columns
