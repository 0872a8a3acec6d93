"""SQL text of looks at single rows, in the source or in a shard."""

from __future__ import annotations

from collections.abc import Sequence

from etl.lanes import Lanes
from etl.model import MIN_ROWID, RowidRange, Table
from etl.sql import literal, pinning, quote


def mark_rowid(window: RowidRange) -> int:
    """A rowid outside the window, and not `sql.sentinel_rowid`: the mark of what `edges` brings."""
    return -2 if window.first_rowid >= 0 else 1


def edges(table: Table, lanes: Lanes, partitions: Sequence[RowidRange]) -> str:
    """What the table's tree says of the edges of adjoining partitions, in the form of a read of theirs.

    After the mark come, for the edge before the first partition and for each partition's end, in column `rowid`: the
    greatest rowid up to it; then, for each again, the next rowid on a walk from that row (the row itself, where a
    search does not find it). Both are NULL where there is none; other columns are NULL.
    """
    rowid, name = quote(table.rowid_name), quote(table.name)
    found = f"SELECT source.{rowid} FROM main.{name} AS source NOT INDEXED"
    upward = f"ORDER BY source.{rowid} LIMIT 1"
    search = f"{found} WHERE source.{rowid} >= before.r {upward}"
    # Below the least rowid SQLite would compare with a real, which is that rowid.
    values = ", ".join(f"({edge if edge >= MIN_ROWID else 'NULL'})" for edge in edge_rowids(partitions))
    nulls = ", NULL" * (lanes.width - 1)
    return (
        f"WITH edge(e) AS (VALUES {values}), before(r) AS MATERIALIZED (SELECT ({found} WHERE source.{rowid} <= edge.e "
        f"ORDER BY source.{rowid} DESC LIMIT 1) FROM edge) "
        f"{pinning(table, lanes, mark_rowid(partitions[0]))} UNION ALL SELECT before.r{nulls} FROM before UNION ALL "
        f"SELECT CASE WHEN before.r IS NULL THEN ({found} {upward}) WHEN ({search}) IS before.r "
        f"THEN ({search} OFFSET 1) ELSE before.r END{nulls} FROM before"
    )


def edge_rowids(partitions: Sequence[RowidRange]) -> list[int]:
    """The last rowid before the partitions, and the last one of each."""
    return [partitions[0].first_rowid - 1, *(partition.last_rowid for partition in partitions)]


def first_rowid(table: Table) -> str:
    """The least rowid."""
    return f"SELECT min({quote(table.rowid_name)}) FROM {quote(table.name)}"


def last_rowids(table: Table, last: int, *, rows: int) -> str:
    """The greatest rowids up to this one, descending."""
    rowid = quote(table.rowid_name)
    of = f"FROM {quote(table.name)} NOT INDEXED WHERE {rowid} <= {last}"
    return f"SELECT {rowid} {of} ORDER BY {rowid} DESC LIMIT {rows}"


def rowid_from(table: Table, first: int) -> str:
    """The least rowid from this one up."""
    rowid = quote(table.rowid_name)
    return f"SELECT {rowid} FROM {quote(table.name)} NOT INDEXED WHERE {rowid} >= {first} ORDER BY {rowid} LIMIT 1"


def column_bytes(table: Table, first: int, last: int, *, rows: int) -> str:
    """The mean bytes of each column's cells, over that many rows from `first` up and as many from `last` down."""
    names = [quote(column.name) for column in table.columns]
    rowid = quote(table.rowid_name)
    source = f"SELECT {', '.join(names)} FROM {quote(table.name)} NOT INDEXED WHERE {rowid}"
    up = f"SELECT * FROM ({source} >= {first} ORDER BY {rowid} LIMIT {rows})"
    down = f"SELECT * FROM ({source} <= {last} ORDER BY {rowid} DESC LIMIT {rows})"
    sizes = [
        f"avg(CASE typeof({name}) WHEN 'null' THEN 0 WHEN 'integer' THEN min(8, length({name}) / 2 + 1) "
        f"WHEN 'real' THEN 8 ELSE length(CAST({name} AS BLOB)) END)"
        for name in names
    ]
    return f"SELECT {', '.join(sizes)} FROM ({up} UNION ALL {down})"


def cells(table: Table, rowid: int) -> str:
    """One row's written cells; text as its bytes in the file's encoding, valid or not."""
    columns = [quote(column.name) for column in table.written]
    exact = [f"CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END" for name in columns]
    where = f"NOT INDEXED WHERE {quote(table.rowid_name)} = {rowid}"
    return f"SELECT {', '.join(exact or ['1'])} FROM {quote(table.name)} {where}"


def unsequenced(table: Table) -> str:
    """The greatest rowid, where it is above 0 and sqlite_sequence has no such number for the table; else no row."""
    sequence = f"SELECT seq FROM sqlite_sequence WHERE name = {literal(table.name)}"
    return (
        f"SELECT last FROM (SELECT max({quote(table.rowid_name)}) AS last FROM {quote(table.name)}) WHERE last > 0 "
        f"AND NOT ifnull((SELECT typeof(seq) = 'integer' AND seq >= last FROM ({sequence})), 0)"
    )


def set_sequence(table: Table) -> tuple[str, str]:
    """Sets sqlite_sequence by the rows that are there."""
    name, rowid = literal(table.name), quote(table.rowid_name)
    return (
        f"DELETE FROM sqlite_sequence WHERE name = {name}",
        f"INSERT INTO sqlite_sequence SELECT {name}, {rowid} FROM {quote(table.name)} ORDER BY {rowid} DESC LIMIT 1",
    )
