"""SQL text of looks at single rows, in the source or in a shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etl.model import Table
from etl.sql import quote


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a walk in rowid order: the row from which, and the row that must come next."""

    before: int | str
    """A rowid, or SQL of one (no step where it is NULL)."""
    after: int | None
    """None: the next row is beyond `edge`, and the row at `edge`, if there is one, is `before` itself."""
    edge: int


def breaks(table: Table, steps: Sequence[Step]) -> str:
    """In one row, how many of the steps a walk over the table in rowid order cannot make; 0 in any sound file."""
    rowid, name = quote(table.rowid_name), quote(table.name)
    found = f"SELECT source.{rowid} FROM main.{name} AS source NOT INDEXED WHERE source.{rowid}"
    walk = f"{found} >= step.r ORDER BY source.{rowid} LIMIT 1"
    beyond = f"(ifnull(({walk} OFFSET 1) > step.edge, 1) AND (step.r = step.edge OR NOT EXISTS ({found} = step.edge)))"
    after = f"CASE WHEN step.n IS NULL THEN {beyond} ELSE ({walk} OFFSET 1) IS step.n END"
    rows = " UNION ALL ".join(
        f"SELECT {step.before} AS r, {'NULL' if step.after is None else step.after} AS n, {step.edge} AS edge"
        for step in steps
    )
    return (
        f"SELECT count(*) AS breaks FROM ({rows}) AS step "
        f"WHERE step.r IS NOT NULL AND NOT (({walk}) IS step.r AND {after})"
    )


def last_rowid_before(table: Table, rowid: int) -> str:
    """SQL of the greatest rowid below this one; NULL where there is none."""
    name = quote(table.rowid_name)
    return f"(SELECT max({name}) FROM {quote(table.name)} WHERE {name} < {rowid})"


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
