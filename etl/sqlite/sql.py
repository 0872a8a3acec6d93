"""SQL text that several packages use. Names are quoted, values bound; connectorx cannot bind, so it gets whole numbers.

Tables and columns may have any name. So every statement says `main.<table> AS t` and `t.<column>`, and its own columns
have an alias too. Otherwise SQLite takes a name for a column of the source, a table for a WITH clause, or an unknown
name in double quotes for a string.
"""

from __future__ import annotations

from collections.abc import Iterable

from etl.core.columns import TAGS, ReadTypes
from etl.core.model import Index, ReadType, RowidRange, Table, folded

PINS = {ReadType.INTEGER: "0", ReadType.REAL: "0.0", ReadType.TEXT: "''", ReadType.BLOB: "x''"}
"""A cell of each read type: in the first row of a result it fixes the type that connectorx gives the column."""
VARIANT_PINS = ("0", "0", "0.0", "x''")
_BEGINNING_BYTES = 4_096
SELECT_NAMES = "SELECT name FROM sqlite_schema"
SELECT_SCHEMA = "SELECT type, name, sql FROM sqlite_schema"
SELECT_TRIGGERS = "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'"


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def named(table: Table) -> str:
    """The table under the alias `t`."""
    return f"main.{quote(table.name)} AS t"


def cell_of(column: str) -> str:
    """A column of the table in `named`."""
    return f"t.{quote(column)}"


def rowid_of(table: Table) -> str:
    """The rowid of the table in `named`."""
    return cell_of(table.rowid_name)


def variant_cells(cell: str) -> list[str]:
    """The four expressions that carry any cell: tag, integer, real, bytes."""
    tags = " ".join(f"WHEN '{storage_class}' THEN {tag}" for storage_class, tag in TAGS.items())
    return [
        f"CASE typeof({cell}) {tags} ELSE 0 END",
        f"CASE typeof({cell}) WHEN 'integer' THEN {cell} END",
        f"CASE typeof({cell}) WHEN 'real' THEN {cell} END",
        f"CASE WHEN typeof({cell}) IN ('text', 'blob') THEN CAST({cell} AS BLOB) END",
    ]


def rows_of(table: Table, piece: RowidRange) -> str:
    """The FROM and WHERE of the rows in a range."""
    bounds = f"{piece.first_rowid} AND {piece.last_rowid}"
    return f"FROM {named(table)} NOT INDEXED WHERE {rowid_of(table)} BETWEEN {bounds}"


# -- rows of a source or a shard ---------------------------------------------------------------------------------------


def ends(table: Table) -> str:
    """The least and the greatest rowid, null in a table without rows. Each subquery is a search, not a scan."""
    rowid, name = rowid_of(table), named(table)
    return f"SELECT (SELECT min({rowid}) FROM {name}), (SELECT max({rowid}) FROM {name})"


def first_rowid(table: Table) -> str:
    return f"SELECT min({rowid_of(table)}) FROM {named(table)}"


def last_rowids(table: Table, last: int, *, rows: int) -> str:
    """The greatest rowids up to this one, descending."""
    rowid = rowid_of(table)
    of = f"FROM {named(table)} NOT INDEXED WHERE {rowid} <= {last}"
    return f"SELECT {rowid} {of} ORDER BY {rowid} DESC LIMIT {rows}"


def rowid_from(table: Table, first: int) -> str:
    """The least rowid from this one up."""
    rowid = rowid_of(table)
    return f"SELECT {rowid} FROM {named(table)} NOT INDEXED WHERE {rowid} >= {first} ORDER BY {rowid} LIMIT 1"


def beginnings(table: Table, rowid: int) -> str:
    """One row's written cells, of texts and blobs the first bytes; text in the file's encoding, valid or not."""
    columns = [cell_of(column.name) for column in table.written]
    short = [
        f"CASE WHEN typeof({cell}) IN ('text', 'blob') THEN substr(CAST({cell} AS BLOB), 1, {_BEGINNING_BYTES}) "
        f"ELSE {cell} END"
        for cell in columns
    ]
    return f"SELECT {', '.join(short or ['1'])} {rows_of(table, RowidRange(rowid, rowid))}"


# -- writing a shard ---------------------------------------------------------------------------------------------------


def insert(table: Table, read_types: ReadTypes) -> str:
    """One row into a shard: parameters are the rowid, then each written column's cells.

    OR ABORT overrides the table's own ON CONFLICT clauses: IGNORE and REPLACE would lose rows silently.
    """
    names = [quote(table.rowid_name)]
    values = ["?1"]
    parameter = 2
    for column, columns in read_types.written(table):
        names.append(quote(column.name))
        values.append(_cell(parameter, is_variant=len(columns) > 1))
        parameter += len(columns)
    return f"INSERT OR ABORT INTO main.{quote(table.name)} ({', '.join(names)}) VALUES ({', '.join(values)})"


def _cell(parameter: int, *, is_variant: bool) -> str:
    if not is_variant:
        return f"?{parameter}"
    tag, integer, real, data = (f"?{parameter + i}" for i in range(4))
    return (
        f"CASE {tag} WHEN {TAGS['integer']} THEN {integer} WHEN {TAGS['real']} THEN {real} "
        f"WHEN {TAGS['text']} THEN CAST({data} AS TEXT) WHEN {TAGS['blob']} THEN {data} END"
    )


def delete_rows(table: Table, piece: RowidRange) -> str:
    return f"DELETE {rows_of(table, piece)}"


def unsequenced(table: Table) -> str:
    """The greatest rowid, if it is above 0 and sqlite_sequence has none or a lower one for the table; else no row."""
    sequence = f"SELECT q.seq FROM main.sqlite_sequence AS q WHERE q.name = {literal(table.name)}"
    return (
        f"SELECT g.last FROM (SELECT max({rowid_of(table)}) AS last FROM {named(table)}) AS g WHERE g.last > 0 "
        f"AND NOT ifnull((SELECT typeof(s.seq) = 'integer' AND s.seq >= g.last FROM ({sequence}) AS s), 0)"
    )


def sequence(table: Table) -> str:
    """The greatest rowid that AUTOINCREMENT gave; NULL before the first."""
    return f"SELECT max(q.seq) FROM main.sqlite_sequence AS q WHERE q.name = {literal(table.name)}"


def set_sequence(table: Table, last_id: int | None = None) -> tuple[str, str]:
    """Sets sqlite_sequence: AUTOINCREMENT goes on above `last_id`, or above the greatest rowid in the table."""
    name, rowid = literal(table.name), rowid_of(table)
    greatest = f"SELECT {name}, {rowid} FROM {named(table)} ORDER BY {rowid} DESC LIMIT 1"
    return (
        f"DELETE FROM main.sqlite_sequence WHERE name = {name}",
        f"INSERT INTO main.sqlite_sequence {greatest if last_id is None else f'VALUES ({name}, {last_id})'}",
    )


# -- schemas -----------------------------------------------------------------------------------------------------------


def indexed_columns(table: Table) -> str:
    """Each index of the table with each of its columns (NULL for an expression), in order."""
    # `temp.`, because the source may have a table named `pragma_index_list`; the functions exist in any schema.
    return (
        f"SELECT list.name, info.name FROM temp.pragma_index_list({literal(table.name)}, 'main') AS list, "
        "temp.pragma_index_xinfo(list.name, 'main') AS info WHERE info.key ORDER BY list.seq, info.seqno"
    )


def unique_columns(table: Table) -> str:
    """Each unique index of the table with each of its columns (NULL for an expression) and their collations."""
    return (
        f"SELECT list.name, info.name, info.coll FROM temp.pragma_index_list({literal(table.name)}, 'main') AS list, "
        "temp.pragma_index_xinfo(list.name, 'main') AS info WHERE info.key AND list.\"unique\" "
        "ORDER BY list.seq DESC, info.seqno"
    )


def columns(table_name: str) -> str:
    """A row for each column of the table; the name is second."""
    return f"PRAGMA main.table_xinfo({quote(table_name)})"


def select_ddl(table: Table) -> str:
    """The table's CREATE text."""
    return f"SELECT d.sql FROM main.sqlite_schema AS d WHERE d.type = 'table' AND d.name = {literal(table.name)}"


def replace_ddl(table: Table, ddl: str) -> str:
    """Replaces the table's CREATE text in the file's schema; needs PRAGMA writable_schema."""
    return f"UPDATE sqlite_schema SET sql = {literal(ddl)} WHERE type = 'table' AND name = {literal(table.name)}"


def drop(index: Index) -> str:
    return f"DROP INDEX IF EXISTS {quote(index.name)}"


def indexes(table: Table, *, columns: Iterable[str], copied: bool) -> tuple[Index, ...]:
    """The indexes of a finished shard: the source's own if `copied`, then one on each of `columns` that exists.

    If the source has an index of the same name, that one is kept.
    """
    planned = {folded(index.name): index for index in (table.indexes if copied else ())}
    existing = {folded(column.name): column.name for column in table.columns}
    for wanted in columns:
        name = existing.get(folded(wanted))
        if name is not None:
            index = _on_column(table, name)
            planned.setdefault(folded(index.name), index)
    return tuple(planned.values())


def key_index(table: Table, others: Iterable[Index]) -> Index:
    """An index on the shard key, by another name than those of the others."""
    taken, index = {folded(other.name) for other in others}, _on_column(table, table.key.name)
    while folded(index.name) in taken:
        index = _on_column(table, table.key.name, f"{index.name}_key")
    return index


def _on_column(table: Table, column: str, name: str = "") -> Index:
    name = name or f"idx_{table.name}_{column}"
    return Index(name, f"CREATE INDEX {quote(name)} ON {quote(table.name)} ({quote(column)})")


def explained_search(table: Table, column: str) -> str:
    """A row for each step of a query by the column; the last cell begins with SEARCH where an index begins with it."""
    return f"EXPLAIN QUERY PLAN SELECT {rowid_of(table)} FROM {named(table)} WHERE {cell_of(column)} >= 0"
