"""SQL text of reads of a shard: its cells as they are, its keys, its bounds."""

from __future__ import annotations

from collections.abc import Sequence

from etl.core.model import ReadType, RowidRange, Table
from etl.sqlite.sql import PINS, cell_of, named, rowid_of, variant_cells

MOST_EXACT_REAL = 2**53
"""Every whole number up to here, of either sign, is a real exactly."""


def scan_cells(column: str, kind: str) -> dict[str, str]:
    """A column's result columns for a scan, by the pin that fixes the type of each: `kind` is the lane's name.

    `number` is a NUMERIC column's integers and reals as reals; an integer that is none exactly is made a text, which
    the pin refuses. In `exact`, four result columns carry any cell.
    """
    cell = cell_of(column)
    if kind == "variant":
        return dict(zip(variant_cells(cell), ("0", "0", "0.0", "x''"), strict=True))
    if kind == "number":
        is_exact = f"{cell} BETWEEN {-MOST_EXACT_REAL} AND {MOST_EXACT_REAL}"
        integer = f"iif({is_exact}, CAST({cell} AS REAL), CAST({cell} AS TEXT))"
        return {f"CASE typeof({cell}) WHEN 'integer' THEN {integer} ELSE {cell} END": "0.0"}
    return {cell: PINS[ReadType(kind)]}


def scan(table: Table, cells: Sequence[tuple[str, str]], piece: RowidRange, *, where: str | None, limit: int) -> str:
    """The cells (expression, pin) of a piece's rows as `c0`, `c1` …, in rowid order, after a row that pins the types.

    The column `sentinel` is 1 in that row and 0 in the others. `limit` −1 means all rows.
    """
    pins = ", ".join(["1 AS sentinel", *(f"{pin} AS c{i}" for i, (_, pin) in enumerate(cells))])
    expressions = ", ".join(["0 AS sentinel", *(f"{expression} AS c{i}" for i, (expression, _) in enumerate(cells))])
    rowid = rowid_of(table)
    condition = f"{rowid} BETWEEN {piece.first_rowid} AND {piece.last_rowid}" + (f" AND {where}" if where else "")
    return (
        f"SELECT {pins} UNION ALL SELECT * FROM (SELECT {expressions} "
        f"FROM {named(table)} WHERE {condition} ORDER BY {rowid} LIMIT {limit})"
    )


def keys_from(table: Table, *, rows: int) -> str:
    """The rowid and key of up to `rows` rows from the rowid `?1` on; −1 means all."""
    rowid = rowid_of(table)
    return (
        f"SELECT {rowid}, {cell_of(table.key.name)} FROM {named(table)} WHERE {rowid} >= ?1 "
        f"ORDER BY {rowid} LIMIT {rows}"
    )


def rowid_bounds(table: Table) -> str:
    """The least and the greatest rowid, each found without a scan."""
    rowid, name = rowid_of(table), named(table)
    return f"SELECT (SELECT min({rowid}) FROM {name}), (SELECT max({rowid}) FROM {name})"


def count_keyless(table: Table) -> str:
    """How many rows have a key that is NULL or nothing but the characters `?1`."""
    key = cell_of(table.key.name)
    return f"SELECT count(*) FROM {named(table)} WHERE ifnull(trim(CAST({key} AS TEXT), ?1), '') = ''"
