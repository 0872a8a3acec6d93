"""The source table's schema, read through the standard library's SQLite, closed before connectorx opens the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from etl.core.errors import Refused
from etl.core.model import (
    IDENTITY_TABLE,
    SCHEMA_TABLE,
    WINDOWS_TABLE,
    Affinity,
    Column,
    Index,
    RowidRange,
    Table,
    folded,
)
from etl.sources import sql as source_sql
from etl.sqlite import sql, stdlib

SAMPLED_ROWS = 1_000
COUNTED_ROWS = 100_000
_TABLES_AND_VIEWS = "SELECT name, type, rootpage, sql FROM sqlite_schema WHERE type IN ('table', 'view')"
_ROWID_ALIASES = ("rowid", "_rowid_", "oid")


def inspect(
    path: Path,
    table_name: str,
    key_name: str,
    *,
    opened: Callable[[Path], AbstractContextManager[sqlite3.Connection]] = stdlib.source,
) -> tuple[Table, RowidRange | None]:
    """The table and the range of its rowids now (None while it has no rows). A shard is `opened` in another way.

    Raises Refused if there is no such file, table or key column, or if the table has no usable rowid; EtlError if
    SQLite cannot read it now.
    """
    with opened(path) as database:
        table = _table(database, path, table_name, key_name)
        return table, _rowids(database, path, table)


def rows_above(path: Path, table: Table, rowid: int | None, *, most: int = COUNTED_ROWS) -> int:
    """How many rows are above the rowid (None: in all). From `most` on it counts rowids instead, an upper bound.

    Raises as `stdlib.source` does.
    """
    with stdlib.source(path) as database:
        (counted,) = database.execute(source_sql.some_above(table, rowid, most=most)).fetchone()
        if counted < most:
            return int(counted)
        first, last = database.execute(source_sql.ends_above(table, rowid)).fetchone()
        return int(last - first + 1)


def sequence(path: Path, table: Table) -> int:
    """The greatest id that AUTOINCREMENT has given; 0 before the first. Raises as `stdlib.source` does."""
    with stdlib.source(path) as database:
        (greatest,) = database.execute(sql.sequence(table)).fetchone()
        return greatest if isinstance(greatest, int) else 0


def searches(path: Path, table: Table, column: str) -> bool:
    """Whether SQLite finds the greatest cells of the column by an index. Raises as `stdlib.source` does."""
    with stdlib.source(path) as database:
        steps = database.execute(sql.explained_search(table, column)).fetchall()
        return any(str(step[-1]).startswith("SEARCH") for step in steps)


def rowid_name(database: sqlite3.Connection | sqlite3.Cursor, table: str) -> str | None:
    """A name by which SQL reaches the rowid: an alias that no column hides, or the INTEGER PRIMARY KEY column."""
    rows = database.execute(sql.columns(table)).fetchall()
    names = {folded(row[1]) for row in rows}
    return next((alias for alias in _ROWID_ALIASES if alias not in names), None) or _rowid_column(
        database, sql.quote(table), rows
    )


def _table(database: sqlite3.Connection, path: Path, name: str, key_name: str) -> Table:
    place = f"SOURCE_DB={path}, TABLE_NAME={name}"
    ddl = _create_table_text(database, place, name)
    quoted = sql.quote(name)
    indexes = tuple(Index(index, text) for index, text in _of_table(database, "index", name) if text is not None)
    strict, without_rowid = database.execute(
        "SELECT list.strict, list.wr FROM temp.pragma_table_list(?) AS list "  # temp: see sql.indexed_columns
        "WHERE list.schema = 'main' AND list.name = ?",
        (name, name),
    ).fetchone()
    if without_rowid:
        raise Refused(f"{place}: expected a table with rowids, found WITHOUT ROWID; it cannot be cut into windows")
    rows = database.execute(sql.columns(name)).fetchall()
    sampled = _storage_classes(database, quoted, [row[1] for row in rows])
    columns = tuple(
        Column(
            name=column,
            affinity=affinity(declared, strict=bool(strict)),
            generated=hidden in (2, 3),
            storage_classes=frozenset(classes),
            not_null=bool(not_null),
            default=default,
        )
        for (_, column, declared, not_null, default, _, hidden), classes in zip(rows, sampled, strict=True)
    )
    by_name = {folded(column.name): column for column in columns}
    key = by_name.get(folded(key_name))
    if key is None:
        names = ", ".join(column.name for column in columns)
        raise Refused(f"{place}: SHARD_KEY={key_name}: expected a column of the table, found only: {names}")
    rowid_column = _rowid_column(database, quoted, rows)
    rowid = rowid_name(database, name)
    if rowid is None:
        raise Refused(f"{place}: columns named rowid, _rowid_ and oid hide the rowid; rename one of them in the source")
    return Table(
        name=name,
        ddl=ddl,
        columns=columns,
        key=key,
        rowid_name=rowid,
        rowid_column=rowid_column,
        indexes=indexes,
        triggers=tuple(row[0] for row in _of_table(database, "trigger", name)),
        encoding=str(database.execute("PRAGMA encoding").fetchone()[0]),
        user_version=int(database.execute("PRAGMA user_version").fetchone()[0]),
        application_id=int(database.execute("PRAGMA application_id").fetchone()[0]),
    )


def _create_table_text(database: sqlite3.Connection, place: str, name: str) -> str:
    """The CREATE TABLE text of an ordinary table; anything else is refused."""
    if folded(name) in (IDENTITY_TABLE, SCHEMA_TABLE, WINDOWS_TABLE):
        raise Refused(f"{place}: every shard has a table of that name of its own; rename the source's table")
    found = {row[0]: row[1:] for row in database.execute(_TABLES_AND_VIEWS)}
    kind, rootpage, ddl = found.get(name, ("", 0, None))
    if kind == "view":
        raise Refused(f"{place}: expected a table, found a view; set TABLE_NAME to the table behind it")
    if kind != "table" or folded(name).startswith("sqlite_"):
        tables = ", ".join(sorted(other for other, row in found.items() if row[0] == "table")) or "no table at all"
        raise Refused(f"{place}: expected a table of that name (letter case counts), found: {tables}; set TABLE_NAME")
    if not rootpage:
        raise Refused(f"{place}: expected an ordinary table, found a virtual one; copy its rows into a table first")
    return str(ddl)


def _of_table(database: sqlite3.Connection, kind: str, table: str) -> list[tuple[str, str | None]]:
    return database.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = ? AND tbl_name = ? COLLATE NOCASE ORDER BY rowid",
        (kind, table),
    ).fetchall()


def affinity(declared: str, *, strict: bool) -> Affinity:
    """A declared type's affinity (https://sqlite.org/datatype3.html, 3.1; in STRICT tables ANY converts nothing)."""
    lower = folded(declared)
    if "int" in lower:
        return Affinity.INTEGER
    if "char" in lower or "clob" in lower or "text" in lower:
        return Affinity.TEXT
    if "blob" in lower or not lower or (strict and lower == "any"):
        return Affinity.BLOB
    if "real" in lower or "floa" in lower or "doub" in lower:
        return Affinity.REAL
    return Affinity.NUMERIC


def _storage_classes(database: sqlite3.Connection, quoted: str, names: list[str]) -> list[set[str]]:
    """The storage classes of each column in the table's first rows."""
    classes: list[set[str]] = [set() for _ in names]
    cells = ", ".join(f"typeof({sql.cell_of(name)})" for name in names)
    for row in database.execute(f"SELECT {cells} FROM main.{quoted} AS t NOT INDEXED LIMIT {SAMPLED_ROWS}"):
        for found, storage_class in zip(classes, row, strict=True):
            found.add(storage_class)
    return classes


def _rowid_column(
    database: sqlite3.Connection | sqlite3.Cursor, quoted: str, rows: list[tuple[object, ...]]
) -> str | None:
    """The INTEGER PRIMARY KEY column, if the table has one.

    By an old bug that SQLite keeps, `INTEGER PRIMARY KEY DESC` is no alias of the rowid; the key has an index then.
    """
    primary = [(str(row[1]), str(row[2])) for row in rows if row[5]]
    has_index = any(row[3] == "pk" for row in database.execute(f"PRAGMA main.index_list({quoted})"))
    if len(primary) == 1 and folded(primary[0][1]) == "integer" and not has_index:
        return primary[0][0]
    return None


def _rowids(database: sqlite3.Connection, path: Path, table: Table) -> RowidRange | None:
    """The least and the greatest rowid. In a sound file a search finds both, and nothing beyond them."""
    rowid, name = sql.rowid_of(table), sql.named(table)
    searched = f"EXISTS (SELECT 1 FROM {name} NOT INDEXED WHERE {rowid}"
    found = f"{searched} = ends.first) AND {searched} = ends.last)"
    beyond = f"{searched} < ends.first ORDER BY {rowid} DESC) OR {searched} > ends.last)"
    first, last, sound = database.execute(
        f"SELECT ends.first, ends.last, {found} AND NOT ({beyond}) "
        f"FROM (SELECT (SELECT min({rowid}) FROM {name}) AS first, (SELECT max({rowid}) FROM {name}) AS last) AS ends"
    ).fetchone()
    if first is None:
        return None
    if not sound:
        raise stdlib.damaged(path, "the first or the last rowid is not where a search leads")
    return RowidRange(first, last)
