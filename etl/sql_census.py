"""SQL text that looks at the source: samples of rows, counts, boundaries. Never part of a load."""

from __future__ import annotations

from etl.model import RowidRange, Table
from etl.sql import quote


def sample(table: Table, names: list[str], piece: RowidRange, *, rows: int) -> str:
    """The first `rows` rows of the range: the key, then the storage class of each named column."""
    # typeof() needs no overflow page, so a row of megabytes costs no more than its header.
    classes = [f"typeof({quote(name)})" for name in names]
    return (
        f"SELECT {', '.join([quote(table.key.name), *classes])} "
        f"{_rows_of(table, piece)} ORDER BY {quote(table.rowid_name)} LIMIT {rows}"
    )


def reach(table: Table, piece: RowidRange, *, rows: int) -> str:
    """How many rows the range has, up to `rows`, and the last of their rowids."""
    rowid = quote(table.rowid_name)
    return f"SELECT count(*), max(r) FROM (SELECT {rowid} AS r {_rows_of(table, piece)} ORDER BY {rowid} LIMIT {rows})"


def count(table: Table, piece: RowidRange) -> str:
    """How many rows the range has."""
    return f"SELECT count(*) {_rows_of(table, piece)}"


def some_above(table: Table, rowid: int | None, *, most: int) -> str:
    """How many rows stand above the rowid (None: in all), up to `most`."""
    return f"SELECT count(*) FROM (SELECT 1 {_above(table, rowid)} LIMIT {most})"


def ends_above(table: Table, rowid: int | None) -> str:
    """The least and the greatest rowid above that one (None: of all)."""
    name, above = quote(table.rowid_name), _above(table, rowid)
    return f"SELECT (SELECT min({name}) {above}), (SELECT max({name}) {above})"


def _above(table: Table, rowid: int | None) -> str:
    where = "" if rowid is None else f" WHERE {quote(table.rowid_name)} > {rowid}"
    return f"FROM {quote(table.name)} NOT INDEXED{where}"


def _rows_of(table: Table, piece: RowidRange) -> str:
    bounds = f"{piece.first_rowid} AND {piece.last_rowid}"
    return f"FROM {quote(table.name)} NOT INDEXED WHERE {quote(table.rowid_name)} BETWEEN {bounds}"
