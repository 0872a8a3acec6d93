"""SQL text of looks at single rows, in the source or in a shard."""

from __future__ import annotations

from etl.core.model import Table
from etl.sqlite.sql import cell_of, literal, named, rowid_of


def first_rowid(table: Table) -> str:
    """The least rowid."""
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


def column_bytes(table: Table, first: int, last: int, *, rows: int) -> str:
    """The mean bytes of each column's cells, over that many rows from `first` up and as many from `last` down."""
    rowid = rowid_of(table)
    named_cells = ", ".join(f"{cell_of(column.name)} AS c{i}" for i, column in enumerate(table.columns))
    source = f"SELECT {named_cells} FROM {named(table)} NOT INDEXED WHERE {rowid}"
    up = f"SELECT * FROM ({source} >= {first} ORDER BY {rowid} LIMIT {rows})"
    down = f"SELECT * FROM ({source} <= {last} ORDER BY {rowid} DESC LIMIT {rows})"
    sizes = [
        f"avg(CASE typeof({cell}) WHEN 'null' THEN 0 WHEN 'integer' THEN min(8, length({cell}) / 2 + 1) "
        f"WHEN 'real' THEN 8 ELSE length(CAST({cell} AS BLOB)) END)"
        for cell in (f"found.c{i}" for i in range(len(table.columns)))
    ]
    return f"SELECT {', '.join(sizes)} FROM ({up} UNION ALL {down}) AS found"


def cells(table: Table, rowid: int) -> str:
    """One row's written cells; text as its bytes in the file's encoding, valid or not."""
    columns = [cell_of(column.name) for column in table.written]
    exact = [f"CASE typeof({cell}) WHEN 'text' THEN CAST({cell} AS BLOB) ELSE {cell} END" for cell in columns]
    where = f"NOT INDEXED WHERE {rowid_of(table)} = {rowid}"
    return f"SELECT {', '.join(exact or ['1'])} FROM {named(table)} {where}"


def unsequenced(table: Table) -> str:
    """The greatest rowid, where it is above 0 and sqlite_sequence has no such number for the table; else no row."""
    sequence = f"SELECT q.seq FROM main.sqlite_sequence AS q WHERE q.name = {literal(table.name)}"
    return (
        f"SELECT g.last FROM (SELECT max({rowid_of(table)}) AS last FROM {named(table)}) AS g WHERE g.last > 0 "
        f"AND NOT ifnull((SELECT typeof(s.seq) = 'integer' AND s.seq >= g.last FROM ({sequence}) AS s), 0)"
    )


def set_sequence(table: Table) -> tuple[str, str]:
    """Sets sqlite_sequence by the rows that are there."""
    name, rowid = literal(table.name), rowid_of(table)
    return (
        f"DELETE FROM main.sqlite_sequence WHERE name = {name}",
        f"INSERT INTO main.sqlite_sequence SELECT {name}, {rowid} FROM {named(table)} ORDER BY {rowid} DESC LIMIT 1",
    )
