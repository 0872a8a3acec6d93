"""SQL text that reads shards: rows for a scan, keys for a report, a view of all shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from etl.core.model import ReadType, RowidRange, Table
from etl.sqlite.sql import PINS, VARIANT_PINS, cell_of, named, quote, rowid_of, variant_cells

_MAX_EXACT_REAL = 2**53
"""A real holds every integer from −2^53 to 2^53 exactly."""


def scan_cells(column: str, kind: str) -> dict[str, str]:
    """The result columns that carry a column of this `ColumnKind`: each expression, and the pin that fixes its type.

    `number` reads integers as reals; an integer that no real holds exactly becomes text, which the pin refuses.
    `variant` needs four result columns, which carry any cell.
    """
    cell = cell_of(column)
    if kind == "variant":
        return dict(zip(variant_cells(cell), VARIANT_PINS, strict=True))
    if kind == "number":
        is_exact = f"{cell} BETWEEN {-_MAX_EXACT_REAL} AND {_MAX_EXACT_REAL}"
        integer = f"iif({is_exact}, CAST({cell} AS REAL), CAST({cell} AS TEXT))"
        return {f"CASE typeof({cell}) WHEN 'integer' THEN {integer} ELSE {cell} END": "0.0"}
    return {cell: PINS[ReadType(kind)]}


def scan(table: Table, cells: Sequence[tuple[str, str]], rowids: RowidRange, *, where: str | None, limit: int) -> str:
    """The cells (expression, pin) of the rows as `c0`, `c1` … in rowid order, after one row that pins the types.

    The column `sentinel` is 1 in that first row and 0 in the others. A `limit` of −1 means all rows.
    """
    pins = ", ".join(["1 AS sentinel", *(f"{pin} AS c{i}" for i, (_, pin) in enumerate(cells))])
    expressions = ", ".join(["0 AS sentinel", *(f"{expression} AS c{i}" for i, (expression, _) in enumerate(cells))])
    rowid = rowid_of(table)
    condition = f"{rowid} BETWEEN {rowids.first_rowid} AND {rowids.last_rowid}" + (f" AND {where}" if where else "")
    return (
        f"SELECT {pins} UNION ALL SELECT * FROM (SELECT {expressions} "
        f"FROM {named(table)} WHERE {condition} ORDER BY {rowid} LIMIT {limit})"
    )


def keys_from(table: Table, *, rows: int) -> str:
    """Rowid and key of up to `rows` rows (−1: all), starting at the rowid `?1`."""
    rowid = rowid_of(table)
    return (
        f"SELECT {rowid}, {cell_of(table.key.name)} FROM {named(table)} WHERE {rowid} >= ?1 "
        f"ORDER BY {rowid} LIMIT {rows}"
    )


def count_keyless(table: Table) -> str:
    """The number of rows whose key is NULL, empty, or made only of the characters `?1`."""
    key = cell_of(table.key.name)
    return f"SELECT count(*) FROM {named(table)} WHERE ifnull(trim(CAST({key} AS TEXT), ?1), '') = ''"


def view(table: str, schemas: Mapping[int, str], column: str) -> str:
    """One view, named as the table, of the table in all these shards: number → schema. `column` has the number."""
    name = quote(table)
    parts = [f"SELECT *, {shard} AS {column} FROM {schema}.{name}" for shard, schema in schemas.items()]
    return f"CREATE TEMP VIEW {name} AS\n" + " UNION ALL\n".join(parts) + ";"


def has_row(table: str, columns: Iterable[str]) -> str:
    """1 if a row has the values `?1`, `?2` … in these columns, else 0. NULL finds NULL."""
    condition = " AND ".join(f"{cell_of(name)} IS ?{i}" for i, name in enumerate(columns, start=1))
    return f"SELECT EXISTS (SELECT 1 FROM main.{quote(table)} AS t WHERE {condition})"
