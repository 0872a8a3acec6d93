"""SQL text of a load: names quoted here, values bound or, where connectorx cannot bind, whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from etl.lanes import ROWID, TAGS, Lanes
from etl.model import Column, Index, Lane, RowidRange, Table, folded

PINS = {Lane.INTEGER: "0", Lane.REAL: "0.0", Lane.TEXT: "''", Lane.BLOB: "x''"}
_CARRIED_CLASSES = {
    Lane.INTEGER: "'null', 'integer'",
    Lane.REAL: "'null', 'real'",
    Lane.TEXT: "'null', 'text'",
    Lane.BLOB: "'null', 'blob'",
}


def quote(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


# -- reading the source ------------------------------------------------------------------------------------------------


def sentinel_rowid(window: RowidRange) -> int:
    """A rowid outside the window, which must not cross from −1 to 0: the mark of the row that pins the types."""
    return -1 if window.first_rowid >= 0 else 0


def read(table: Table, lanes: Lanes, partition: RowidRange) -> str:
    """One partition's rows: rowid, then each carried column in its lane, in rowid order.

    connectorx takes an expression's type from its first row, so a first row of our own pins every type; from then on
    a cell of another storage class is an error instead of a silent change. The one exception is a float, which
    accepts integers: REAL columns hold none, and the exact lane asks `typeof` first.
    """
    cells = [quote(table.rowid_name)]
    for column, lane in zip(table.carried, lanes.lanes, strict=True):
        cell = quote(column.name)
        cells += exact_cells(cell) if lane is Lane.EXACT else [cell]
    sentinel = pinning(table, lanes, sentinel_rowid(partition))
    return f"{sentinel} UNION ALL SELECT {', '.join(cells)} {_rows_of(table, partition)}"


def pinning(table: Table, lanes: Lanes, rowid: int) -> str:
    """The first row of a read: this rowid, and in each lane's columns a value of its type."""
    pins = {ROWID: str(rowid)}
    for position in range(len(table.carried)):
        lane = lanes.lanes[position]
        values = ("0", "0", "0.0", "x''") if lane is Lane.EXACT else (PINS[lane],)
        pins |= zip(lanes.frame_columns(position), values, strict=True)
    return "SELECT " + ", ".join(f"{pin} AS {quote(name)}" for name, pin in pins.items())


def exact_cells(cell: str) -> list[str]:
    """The four expressions that carry any cell: tag, integer, real, bytes."""
    tags = " ".join(f"WHEN '{storage_class}' THEN {tag}" for storage_class, tag in TAGS.items())
    return [
        f"CASE typeof({cell}) {tags} ELSE 0 END",
        f"CASE typeof({cell}) WHEN 'integer' THEN {cell} END",
        f"CASE typeof({cell}) WHEN 'real' THEN {cell} END",
        f"CASE WHEN typeof({cell}) IN ('text', 'blob') THEN CAST({cell} AS BLOB) END",
    ]


def row_bytes(table: Table, lanes: Lanes, window: RowidRange, *, rows: int) -> str:
    """The first `rows` rows of the window: rowid and bytes of cells, in rowid order, after one row of zeroes."""
    return (
        "SELECT 0 AS rowid, 0 AS bytes UNION ALL SELECT * FROM ("
        f"SELECT {quote(table.rowid_name)}, {_bytes_of_row(table, lanes)} "
        f"{_rows_of(table, window)} ORDER BY 1 LIMIT {rows})"
    )


def stretch_bytes(table: Table, lanes: Lanes, whole: RowidRange, *, window: int, step: int, overhead: int) -> str:
    """The last rowid of each stretch of `whole`, ascending, and bytes of its rows; each row counts `overhead` more.

    A stretch has `step` rowids; the last one of every `window` rowids has what is left of them.
    """
    begun = f"(stretch.r - ({whole.first_rowid})) % {window}"
    first_of_next = f"stretch.r + min({step}, {window} - {begun})"
    last = f"min({first_of_next} - 1, {whole.last_rowid})"
    rowid = f"source.{quote(table.rowid_name)}"
    # Everything with its owner's name: the source may well have a table `stretch` or a column `r`.
    return (
        f"WITH RECURSIVE stretch(r) AS (SELECT {whole.first_rowid} UNION ALL SELECT {first_of_next} FROM stretch "
        f"WHERE {last} < {whole.last_rowid}) SELECT {last} AS rowid, ifnull((SELECT "
        f"sum({_bytes_of_row(table, lanes)} + {overhead}) FROM main.{quote(table.name)} AS source NOT INDEXED "
        f"WHERE {rowid} BETWEEN stretch.r AND {last}), 0) AS bytes FROM stretch"
    )


def sample_bytes(table: Table, lanes: Lanes, window: RowidRange, *, step: int) -> str:
    """The number and the bytes of the rows at every `step`-th rowid of the window, in one row."""
    return (
        f"WITH RECURSIVE grid(r) AS (SELECT {window.first_rowid} UNION ALL "
        f"SELECT r + {step} FROM grid WHERE r <= {window.last_rowid} - {step}) "
        # Everything with its owner's name, as above.
        f"SELECT count(*) AS rows, ifnull(sum({_bytes_of_row(table, lanes)}), 0) AS bytes FROM grid "
        f"CROSS JOIN main.{quote(table.name)} AS source ON source.{quote(table.rowid_name)} = grid.r"
    )


def misfits(table: Table, lanes: Lanes, partition: RowidRange) -> str:
    """For each carried column, 1 where the partition has a cell of a class that its lane cannot carry, else 0."""
    flags = [
        f"ifnull(max(typeof({quote(column.name)}) NOT IN ({_CARRIED_CLASSES[lane]})), 0) AS c{position}"
        if lane in _CARRIED_CLASSES
        else f"0 AS c{position}"
        for position, (column, lane) in enumerate(zip(table.carried, lanes.lanes, strict=True))
    ]
    return f"SELECT {', '.join(flags)} {_rows_of(table, partition)}"


def boundaries(table: Table, piece: RowidRange, *, rows: int) -> str:
    """The rowid of every `rows`-th row of the piece: where it can be cut into parts of so many rows."""
    # Everything with its owner's name, as above.
    rowid = f"source.{quote(table.rowid_name)}"
    step = f"ORDER BY {rowid} LIMIT 1 OFFSET {rows - 1}"
    of_table = f"SELECT {rowid} FROM main.{quote(table.name)} AS source NOT INDEXED WHERE {rowid}"
    return (
        f"WITH RECURSIVE bound(r) AS (SELECT ({of_table} BETWEEN {piece.first_rowid} AND {piece.last_rowid} {step}) "
        f"UNION ALL SELECT ({of_table} > bound.r AND {rowid} <= {piece.last_rowid} {step}) FROM bound "
        "WHERE bound.r IS NOT NULL) SELECT r FROM bound WHERE r IS NOT NULL"
    )


def ends(table: Table) -> str:
    """The least and the greatest rowid, null in a table without rows."""
    rowid, name = quote(table.rowid_name), quote(table.name)
    return f"SELECT (SELECT min({rowid}) FROM {name}), (SELECT max({rowid}) FROM {name})"


def count(table: Table, piece: RowidRange) -> str:
    """How many rows there are in the piece."""
    return f"SELECT count(*) AS rows {_rows_of(table, piece)}"


def _bytes_of_row(table: Table, lanes: Lanes) -> str:
    terms = [
        _bytes_of_cell(f"source.{quote(column.name)}", lane)
        for column, lane in zip(table.carried, lanes.lanes, strict=True)
        if lane not in (Lane.INTEGER, Lane.REAL)
    ]
    return _sum(terms or ["0"])


def _bytes_of_cell(cell: str, lane: Lane) -> str:
    # octet_length of a text or blob needs no overflow page, so a row of megabytes costs no more than its header.
    size = f"ifnull(octet_length({cell}), 0)"
    # Of a number it would make a text first, which takes ten times as long.
    return f"CASE typeof({cell}) WHEN 'integer' THEN 0 WHEN 'real' THEN 0 ELSE {size} END" if lane is Lane.EXACT else size


def _sum(terms: Sequence[str]) -> str:
    """A balanced sum: SQLite's expressions may be only 1,000 deep, its tables 2,000 columns wide."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_sum(terms[:half])} + {_sum(terms[half:])})"


def _rows_of(table: Table, window: RowidRange) -> str:
    rowid = quote(table.rowid_name)
    bounds = f"{window.first_rowid} AND {window.last_rowid}"
    return f"FROM {quote(table.name)} AS source NOT INDEXED WHERE {rowid} BETWEEN {bounds}"


# -- writing a shard ---------------------------------------------------------------------------------------------------


def insert(table: Table, lanes: Lanes) -> str:
    """One row into a shard: parameters are the rowid, then each written column's cells in its lane's order."""
    names = [quote(table.rowid_name)]
    values = ["?1"]
    parameter = 2
    for column, columns in written_columns(table, lanes):
        names.append(quote(column.name))
        values.append(_cell(parameter, exact=len(columns) > 1))
        parameter += len(columns)
    return f"INSERT INTO {quote(table.name)} ({', '.join(names)}) VALUES ({', '.join(values)})"


def written_columns(table: Table, lanes: Lanes) -> Iterable[tuple[Column, tuple[str, ...]]]:
    """Each written column with its frame columns, in the order of `insert`'s parameters."""
    for position, column in enumerate(table.carried):
        if not column.generated:
            yield column, lanes.frame_columns(position)


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
SELECT_SCHEMA = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND type IN ('table', 'index')"


def indexed_columns(table: Table) -> str:
    """Each index of the table with each of its columns (NULL for an expression), in order."""
    return (
        "SELECT list.name, info.name FROM pragma_index_list("
        "'"
        + table.name.replace("'", "''")
        + "'"
        + ") AS list, pragma_index_xinfo(list.name) AS info WHERE info.key ORDER BY list.seq, info.seqno"
    )


def delete_rows(table: Table, piece: RowidRange) -> str:
    """Deletes the rows of a range from a shard."""
    bounds = f"{piece.first_rowid} AND {piece.last_rowid}"
    return f"DELETE FROM {quote(table.name)} WHERE {quote(table.rowid_name)} BETWEEN {bounds}"


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
