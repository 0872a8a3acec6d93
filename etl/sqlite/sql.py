"""SQL text of a load: names quoted here, values bound or, where connectorx cannot bind, whole numbers.

A table may have any name, and columns of any names. So every statement says `main.<table> AS t` and `t.<column>`, and
puts an alias before each of our own columns as well. SQLite takes a bare name for a column of the source first, a bare
table name for one of our WITH clauses, and an unknown bare name in double quotes for a string.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from etl.core.columns import ROWID, TAGS, ReadTypes
from etl.core.model import MIN_ROWID, Index, ReadType, RowidRange, Table, folded

PINS = {ReadType.INTEGER: "0", ReadType.REAL: "0.0", ReadType.TEXT: "''", ReadType.BLOB: "x''"}
LEADING_ROWS = 5
"""The rows of `read` that come before the partition's own."""
_CARRIED_CLASSES = {
    ReadType.INTEGER: "'null', 'integer'",
    ReadType.REAL: "'null', 'real'",
    ReadType.TEXT: "'null', 'text'",
    ReadType.BLOB: "'null', 'blob'",
}


def quote(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def named(table: Table) -> str:
    """The table, under the alias that `cell_of` and `rowid_of` use; with its schema, it is never one of WITH."""
    return f"main.{quote(table.name)} AS t"


def cell_of(column: str) -> str:
    """A column of the table that `named` names."""
    return f"t.{quote(column)}"


def rowid_of(table: Table) -> str:
    """The rowid of the table that `named` names."""
    return cell_of(table.rowid_name)


# -- reading the source ------------------------------------------------------------------------------------------------


def sentinel_rowid(window: RowidRange) -> int:
    """A rowid outside the window, which must not cross from −1 to 0; each first rowid has its own."""
    return ~window.first_rowid


def read(table: Table, read_types: ReadTypes, partition: RowidRange) -> str:
    """One partition's rows: rowid, then each carried column in its lane, after LEADING_ROWS others.

    connectorx takes an expression's type from its first row, so a first row of our own pins every type; from then on
    a cell of another storage class is an error instead of a silent change. The one exception is a float, which
    accepts integers: REAL columns hold none, and the exact lane asks `typeof` first.

    That first row has the partition's sentinel rowid; `_edges` are the other leading rows, of the same snapshot.
    """
    pins: dict[str, str] = {}
    cells = [rowid_of(table)]
    for position, (column, read_type) in enumerate(zip(table.carried, read_types.types, strict=True)):
        cell = cell_of(column.name)
        cells += exact_cells(cell) if read_type is ReadType.VARIANT else [cell]
        values = ("0", "0", "0.0", "x''") if read_type is ReadType.VARIANT else (PINS[read_type],)
        pins |= zip(read_types.frame_columns(position), values, strict=True)
    sentinel = sentinel_rowid(partition)
    first_row = ", ".join(f"{pin} AS {quote(name)}" for name, pin in {ROWID: str(sentinel), **pins}.items())
    edges, *rowids = _edges(table, partition)
    marks = [", ".join([f"ifnull({rowid}, {sentinel})", *pins.values()]) for rowid in rowids]
    return (
        f"WITH {edges} SELECT {first_row} UNION ALL SELECT {marks[0]} FROM before "
        f"UNION ALL SELECT {marks[1]} FROM before UNION ALL SELECT {', '.join(cells)} {_rows_of(table, partition)}"
    )


def _edges(table: Table, partition: RowidRange) -> tuple[str, str, str]:
    """What the table's tree says of the partition's two edges: WITH clauses, and two rowids of each row of `before`.

    They are the greatest rowid before the partition, or up to its end, and the next one on a walk from that row (the
    row itself, where a search does not find it). NULL where there is none.
    """
    rowid = rowid_of(table)
    found = f"SELECT {rowid} FROM {named(table)} NOT INDEXED"
    upward = f"ORDER BY {rowid} LIMIT 1"
    search = f"{found} WHERE {rowid} >= before.r {upward}"
    # Below the least rowid SQLite would compare with a real, which is that rowid.
    start = partition.first_rowid - 1 if partition.first_rowid > MIN_ROWID else "NULL"
    edges = (
        f"edge(r) AS (VALUES ({start}), ({partition.last_rowid})), before(r) AS MATERIALIZED (SELECT ({found} "
        f"WHERE {rowid} <= edge.r ORDER BY {rowid} DESC LIMIT 1) FROM edge)"
    )
    after = (
        f"CASE WHEN before.r IS NULL THEN ({found} {upward}) WHEN ({search}) IS before.r THEN ({search} OFFSET 1) "
        "ELSE before.r END"
    )
    return edges, "before.r", after


def exact_cells(cell: str) -> list[str]:
    """The four expressions that carry any cell: tag, integer, real, bytes."""
    tags = " ".join(f"WHEN '{storage_class}' THEN {tag}" for storage_class, tag in TAGS.items())
    return [
        f"CASE typeof({cell}) {tags} ELSE 0 END",
        f"CASE typeof({cell}) WHEN 'integer' THEN {cell} END",
        f"CASE typeof({cell}) WHEN 'real' THEN {cell} END",
        f"CASE WHEN typeof({cell}) IN ('text', 'blob') THEN CAST({cell} AS BLOB) END",
    ]


def row_bytes(table: Table, read_types: ReadTypes, window: RowidRange, *, rows: int) -> str:
    """The first `rows` rows of the window: rowid and bytes of cells, in rowid order, after one row of zeroes."""
    return (
        "SELECT 0 AS rowid, 0 AS bytes UNION ALL SELECT * FROM ("
        f"SELECT {rowid_of(table)}, {_bytes_of_row(table, read_types)} "
        f"{_rows_of(table, window)} ORDER BY 1 LIMIT {rows})"
    )


def stretch_bytes(
    table: Table, read_types: ReadTypes, whole: RowidRange, *, window: int, step: int, overhead: int
) -> str:
    """The last rowid of each stretch of `whole`, ascending, and bytes of its rows; each row counts `overhead` more.

    A stretch has `step` rowids; the last one of every `window` rowids has what is left of them.
    """
    begun = f"(stretch.r - ({whole.first_rowid})) % {window}"
    first_of_next = f"stretch.r + min({step}, {window} - {begun})"
    last = f"min({first_of_next} - 1, {whole.last_rowid})"
    return (
        f"WITH RECURSIVE stretch(r) AS (SELECT {whole.first_rowid} UNION ALL SELECT {first_of_next} FROM stretch "
        f"WHERE {last} < {whole.last_rowid}) SELECT {last} AS rowid, ifnull((SELECT "
        f"sum({_bytes_of_row(table, read_types)} + {overhead}) FROM {named(table)} NOT INDEXED "
        f"WHERE {rowid_of(table)} BETWEEN stretch.r AND {last}), 0) AS bytes FROM stretch"
    )


def sample_bytes(table: Table, read_types: ReadTypes, window: RowidRange, *, step: int) -> str:
    """The number and the bytes of the rows at every `step`-th rowid of the window, in one row."""
    return (
        f"WITH RECURSIVE grid(r) AS (SELECT {window.first_rowid} UNION ALL "
        f"SELECT grid.r + {step} FROM grid WHERE grid.r <= {window.last_rowid} - {step}) "
        f"SELECT count(*) AS rows, ifnull(sum({_bytes_of_row(table, read_types)}), 0) AS bytes FROM grid "
        f"CROSS JOIN {named(table)} ON {rowid_of(table)} = grid.r"
    )


def misfits(table: Table, read_types: ReadTypes, partition: RowidRange) -> str:
    """For each carried column, 1 where the partition has a cell of a class that its lane cannot carry, else 0."""
    flags = [
        f"ifnull(max(typeof({cell_of(column.name)}) NOT IN ({_CARRIED_CLASSES[read_type]})), 0) AS c{position}"
        if read_type in _CARRIED_CLASSES
        else f"0 AS c{position}"
        for position, (column, read_type) in enumerate(zip(table.carried, read_types.types, strict=True))
    ]
    return f"SELECT {', '.join(flags)} {_rows_of(table, partition)}"


def boundaries(table: Table, piece: RowidRange, *, rows: int) -> str:
    """The rowid of every `rows`-th row of the piece: where it can be cut into parts of so many rows."""
    rowid = rowid_of(table)
    step = f"ORDER BY {rowid} LIMIT 1 OFFSET {rows - 1}"
    of_table = f"SELECT {rowid} FROM {named(table)} NOT INDEXED WHERE {rowid}"
    return (
        f"WITH RECURSIVE bound(r) AS (SELECT ({of_table} BETWEEN {piece.first_rowid} AND {piece.last_rowid} {step}) "
        f"UNION ALL SELECT ({of_table} > bound.r AND {rowid} <= {piece.last_rowid} {step}) FROM bound "
        "WHERE bound.r IS NOT NULL) SELECT bound.r FROM bound WHERE bound.r IS NOT NULL"
    )


def ends(table: Table) -> str:
    """The least and the greatest rowid, null in a table without rows."""
    rowid, name = rowid_of(table), named(table)
    return f"SELECT (SELECT min({rowid}) FROM {name}), (SELECT max({rowid}) FROM {name})"


def count(table: Table, piece: RowidRange) -> str:
    """How many rows there are in the piece."""
    return f"SELECT count(*) AS rows {_rows_of(table, piece)}"


def _bytes_of_row(table: Table, read_types: ReadTypes) -> str:
    terms = [
        _bytes_of_cell(cell_of(column.name), read_type)
        for column, read_type in zip(table.carried, read_types.types, strict=True)
        if read_type not in (ReadType.INTEGER, ReadType.REAL)
    ]
    return _sum(terms or ["0"])


def _bytes_of_cell(cell: str, read_type: ReadType) -> str:
    # octet_length of a text or blob needs no overflow page, so a row of megabytes costs no more than its header.
    size = f"ifnull(octet_length({cell}), 0)"
    if read_type is not ReadType.VARIANT:
        return size
    # Of a number it would make a text first, which takes ten times as long.
    return f"CASE typeof({cell}) WHEN 'integer' THEN 0 WHEN 'real' THEN 0 ELSE {size} END"


def _sum(terms: Sequence[str]) -> str:
    """A balanced sum: SQLite's expressions may be only 1,000 deep, its tables 2,000 columns wide."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_sum(terms[:half])} + {_sum(terms[half:])})"


def _rows_of(table: Table, window: RowidRange) -> str:
    bounds = f"{window.first_rowid} AND {window.last_rowid}"
    return f"FROM {named(table)} NOT INDEXED WHERE {rowid_of(table)} BETWEEN {bounds}"


# -- writing a shard ---------------------------------------------------------------------------------------------------


def insert(table: Table, read_types: ReadTypes) -> str:
    """One row into a shard: parameters are the rowid, then each written column's cells in its lane's order.

    OR ABORT overrides the table's own ON CONFLICT clauses: IGNORE and REPLACE would lose rows without an error.
    """
    names = [quote(table.rowid_name)]
    values = ["?1"]
    parameter = 2
    for column, columns in read_types.written(table):
        names.append(quote(column.name))
        values.append(_cell(parameter, exact=len(columns) > 1))
        parameter += len(columns)
    return f"INSERT OR ABORT INTO main.{quote(table.name)} ({', '.join(names)}) VALUES ({', '.join(values)})"


def _cell(parameter: int, *, exact: bool) -> str:
    if not exact:
        return f"?{parameter}"
    tag, integer, real, data = (f"?{parameter + i}" for i in range(4))
    return (
        f"CASE {tag} WHEN {TAGS['integer']} THEN {integer} WHEN {TAGS['real']} THEN {real} "
        f"WHEN {TAGS['text']} THEN CAST({data} AS TEXT) WHEN {TAGS['blob']} THEN {data} END"
    )


# -- schemas -----------------------------------------------------------------------------------------------------------

SELECT_NAMES = "SELECT name FROM sqlite_schema"
SELECT_SCHEMA = "SELECT type, name, sql FROM sqlite_schema"
SELECT_TRIGGERS = "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'"


def indexed_columns(table: Table) -> str:
    """Each index of the table with each of its columns (NULL for an expression), in order."""
    # With `temp.`, as the source may have a table `pragma_index_list`: these functions answer to any schema's name.
    return (
        f"SELECT list.name, info.name FROM temp.pragma_index_list({literal(table.name)}, 'main') AS list, "
        "temp.pragma_index_xinfo(list.name, 'main') AS info WHERE info.key ORDER BY list.seq, info.seqno"
    )


def delete_rows(table: Table, piece: RowidRange) -> str:
    """Deletes the rows of a range from a shard."""
    bounds = f"{piece.first_rowid} AND {piece.last_rowid}"
    return f"DELETE FROM {named(table)} WHERE {rowid_of(table)} BETWEEN {bounds}"


def replace_ddl(table: Table, ddl: str) -> str:
    """Replaces the table's CREATE text in the file's schema, where that may be written."""
    name, text = (part.replace("'", "''") for part in (table.name, ddl))
    return f"UPDATE sqlite_schema SET sql = '{text}' WHERE type = 'table' AND name = '{name}'"


def drop(index: Index) -> str:
    """Drops an index of ours."""
    return f"DROP INDEX IF EXISTS {quote(index.name)}"


def indexes(table: Table, *, columns: Iterable[str], copied: bool) -> tuple[Index, ...]:
    """The indexes of a finished shard: the source's own where `copied`, then one on each of `columns` that exists.

    Where the source has an index of the name that ours would get, the source's stands.
    """
    planned = {folded(index.name): index for index in (table.indexes if copied else ())}
    existing = {folded(column.name): column.name for column in table.columns}
    for wanted in columns:
        name = existing.get(folded(wanted))
        if name is not None:
            index = f"idx_{table.name}_{name}"
            text = f"CREATE INDEX {quote(index)} ON {quote(table.name)} ({quote(name)})"
            planned.setdefault(folded(index), Index(index, text))
    return tuple(planned.values())
