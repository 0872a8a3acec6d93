"""SQL text that looks at the source: samples of rows, counts, boundaries. Never part of a load."""

from __future__ import annotations

from etl.core.model import RowidRange, Table
from etl.sqlite.sql import cell_of, named, rowid_of


def sample(table: Table, names: list[str], piece: RowidRange, *, rows: int) -> str:
    """The first `rows` rows of the range: the key, then the storage class of each named column."""
    # typeof() needs no overflow page, so a row of megabytes costs no more than its header.
    classes = [f"typeof({cell_of(name)})" for name in names]
    return (
        f"SELECT {', '.join([cell_of(table.key.name), *classes])} "
        f"{_rows_of(table, piece)} ORDER BY {rowid_of(table)} LIMIT {rows}"
    )


def reach(table: Table, piece: RowidRange, *, rows: int) -> str:
    """How many rows the range has, up to `rows`, and the last of their rowids."""
    rowid = rowid_of(table)
    some = f"SELECT {rowid} AS r {_rows_of(table, piece)} ORDER BY {rowid} LIMIT {rows}"
    return f"SELECT count(*), max(found.r) FROM ({some}) AS found"


def count(table: Table, piece: RowidRange) -> str:
    """How many rows the range has."""
    return f"SELECT count(*) {_rows_of(table, piece)}"


def some_above(table: Table, rowid: int | None, *, most: int) -> str:
    """How many rows stand above the rowid (None: in all), up to `most`."""
    return f"SELECT count(*) FROM (SELECT 1 {_above(table, rowid)} LIMIT {most})"


def ends_above(table: Table, rowid: int | None) -> str:
    """The least and the greatest rowid above that one (None: of all)."""
    name, above = rowid_of(table), _above(table, rowid)
    return f"SELECT (SELECT min({name}) {above}), (SELECT max({name}) {above})"


def _above(table: Table, rowid: int | None) -> str:
    where = "" if rowid is None else f" WHERE {rowid_of(table)} > {rowid}"
    return f"FROM {named(table)} NOT INDEXED{where}"


def _rows_of(table: Table, piece: RowidRange) -> str:
    bounds = f"{piece.first_rowid} AND {piece.last_rowid}"
    return f"FROM {named(table)} NOT INDEXED WHERE {rowid_of(table)} BETWEEN {bounds}"
