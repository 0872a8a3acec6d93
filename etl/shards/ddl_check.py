"""A shard created or changed in memory before any on disk: it shows which statements ADBC's SQLite refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import adbc_driver_manager
import adbc_driver_sqlite.dbapi

from etl.core.errors import Refused
from etl.core.model import Index, Table
from etl.shards import ledger
from etl.sqlite import sql
from etl.sqlite.ddl import without_not_null

IndexedColumns = Mapping[str, tuple[str | None, ...]]
"""Each index of a finished shard (UNIQUE and PRIMARY KEY have one too) → its columns; None is an expression."""


def rehearse(table: Table, indexes: Sequence[Index]) -> IndexedColumns:
    """Creates a shard's tables and indexes with the SQLite that will write the shards.

    Raises Refused where a statement fails: it may need a collation or function that this SQLite does not have, or an
    index may have a name that the shard uses already.
    """
    statements = [table.ddl, ledger.CREATE_IDENTITY, ledger.CREATE_WINDOWS, *(index.sql for index in indexes)]
    with _memory() as cursor:
        if reason := _refusal(cursor, statements):
            raise Refused(
                f"TABLE_NAME={table.name}: its CREATE statements must work in any SQLite, found one that does not "
                f"({reason}); migrate a copy of the table without it, or, where it is an index, set "
                "COPY_INDEXES=false"
            )
        cursor.execute(sql.indexed_columns(table))
        columns: dict[str, tuple[str | None, ...]] = {}
        for index, column in cursor.fetchall():
            columns[index] = (*columns.get(index, ()), column)
        return columns


def keeps_sequence(table: Table) -> bool:
    """Whether the table is AUTOINCREMENT. No PRAGMA says so, but only such a table creates sqlite_sequence."""
    with _memory() as cursor:
        cursor.execute(table.ddl)
        cursor.execute(sql.SELECT_NAMES)
        return ("sqlite_sequence",) in cursor.fetchall()


def unique_beyond_key(table: Table, indexes: Sequence[Index]) -> list[str]:
    """The columns of each UNIQUE constraint or index that equal rows may break in two shards.

    Rows with the same key are in the same shard, so a constraint that has the key among its columns holds.
    """
    with _memory() as cursor:
        for statement in (table.ddl, *(index.sql for index in indexes)):
            cursor.execute(statement)
        cursor.execute(sql.unique_columns(table))
        columns: dict[str, list[tuple[str | None, str]]] = {}
        for index, column, collation in cursor.fetchall():
            columns.setdefault(index, []).append((column, collation))
    return [
        " and ".join(name or "an expression" for name, _ in of_index)
        for of_index in columns.values()
        if (table.key.name, "BINARY") not in of_index
    ]


def searches_key(table: Table, indexes: Sequence[Index]) -> bool:
    """Whether SQLite finds rows by the shard key, with the table's own indexes and these, and does not scan them.

    True also where a statement fails: then `rehearse` says so.
    """
    with _memory() as cursor:
        if _refusal(cursor, [table.ddl, *(index.sql for index in indexes)]):
            return True
        cursor.execute(sql.explained_search(table, table.key.name))
        return any(str(step[-1]).startswith("SEARCH") for step in cursor.fetchall())


def refusal_to_add(table: Table, ddl: str, columns: Sequence[str]) -> str:
    """Why ALTER TABLE cannot add columns that are declared so to a table with this CREATE text; empty if it can.

    SQLite refuses some only where the table has a row.
    """
    name = sql.quote(table.name)
    added = [f"ALTER TABLE {name} ADD COLUMN {column}" for column in columns]
    with _memory() as cursor:
        return _refusal(
            cursor,
            [
                "PRAGMA ignore_check_constraints = ON",
                without_not_null(ddl),
                f"INSERT INTO {name} DEFAULT VALUES",
                *added,
            ],
        )


@contextmanager
def _memory() -> Iterator[Any]:
    """A cursor of an empty database in memory."""
    with (
        closing(adbc_driver_sqlite.dbapi.connect(":memory:", autocommit=True)) as connection,
        closing(connection.cursor()) as cursor,
    ):
        yield cursor


def _refusal(cursor: Any, statements: Sequence[str]) -> str:
    """Why SQLite refuses one of these statements; empty if it does not."""
    for statement in statements:
        try:
            cursor.execute(statement)
        except adbc_driver_manager.Error as error:
            return str(error).splitlines()[0].rpartition("query: ")[2]
    return ""
