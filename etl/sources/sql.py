"""SQL text of reads of the source: its rows, how many bytes they take, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence

from etl.core.columns import ColumnGroups, ReadTypes
from etl.core.model import MIN_ROWID, Column, ReadType, RowidRange, Table
from etl.sqlite.sql import PINS, VARIANT_PINS, cell_of, named, quote, rowid_of, rows_of, variant_cells

LEADING_ROWS = 5
"""The rows of `read` that come before the partition's own."""
_CLASSES = {
    ReadType.INTEGER: "'null', 'integer'",
    ReadType.REAL: "'null', 'real'",
    ReadType.TEXT: "'null', 'text'",
    ReadType.BLOB: "'null', 'blob'",
}


def sentinel_rowid(partition: RowidRange) -> int:
    """A rowid outside the partition, which must not cross from −1 to 0; each first rowid has its own."""
    return ~partition.first_rowid


def read(table: Table, groups: ColumnGroups, partition: RowidRange) -> str:
    """One partition's rows, one column group after the other, after LEADING_ROWS others.

    All is one statement, so it sees one snapshot: the groups of a row belong together, whatever another program writes
    meanwhile. Two statements could bring one half of a row before it is updated and the other half after.

    connectorx takes an expression's type from its first row, so a row of constants comes first and fixes every type.
    From then on a cell of another storage class is an error instead of a silent change. The one exception is a float,
    which accepts integers: REAL columns hold none, and a variant asks `typeof` first.

    The first row has the partition's sentinel rowid. The other leading rows, of the same snapshot, are its `_edges`.
    """
    sentinel = sentinel_rowid(partition)
    pins = ["0" for _ in groups.leading[1:]]
    for read_type in groups.places.types:
        pins += VARIANT_PINS if read_type is ReadType.VARIANT else (PINS[read_type],)
    first_row = [f"{pin} AS {quote(name)}" for name, pin in zip(groups.names, [str(sentinel), *pins], strict=True)]
    edges, *rowids = _edges(table, partition)
    marks = [f"SELECT {', '.join([f'ifnull({rowid}, {sentinel})', *pins])} FROM before" for rowid in rowids]
    carried = table.carried
    parts = []
    for number, positions in enumerate(groups.groups):
        columns = [None if position is None else carried[position] for position in positions]
        leading = [rowid_of(table), *(str(number) for _ in groups.leading[1:])]
        parts.append(f"SELECT {', '.join(leading + _cells(columns, groups.places))} {rows_of(table, partition)}")
    return f"WITH {edges} SELECT {', '.join(first_row)} UNION ALL " + " UNION ALL ".join([*marks, *parts])


def rows(table: Table, read_types: ReadTypes, piece: RowidRange) -> str:
    """The rows of a range: rowid, then each carried column in its read type."""
    cells = [rowid_of(table), *_cells(table.carried, read_types)]
    return f"SELECT {', '.join(cells)} {rows_of(table, piece)}"


def _cells(columns: Sequence[Column | None], read_types: ReadTypes) -> list[str]:
    cells = []
    for column, read_type in zip(columns, read_types.types, strict=True):
        cell = "NULL" if column is None else cell_of(column.name)
        cells += variant_cells(cell) if read_type is ReadType.VARIANT else [cell]
    return cells


def _edges(table: Table, partition: RowidRange) -> tuple[str, str, str]:
    """What the table's B-tree has at the partition's two edges: WITH clauses, and two rowids for each row of `before`.

    The first is the greatest rowid before the partition, or up to its end; the second is the next rowid in the tree
    (the same one, if a search does not find it). NULL if there is none.
    """
    rowid = rowid_of(table)
    found = f"SELECT {rowid} FROM {named(table)} NOT INDEXED"
    upward = f"ORDER BY {rowid} LIMIT 1"
    search = f"{found} WHERE {rowid} >= before.r {upward}"
    # One less than the least rowid would be a real, which SQLite takes for equal to that rowid.
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


def row_bytes(table: Table, read_types: ReadTypes, window: RowidRange, *, rows: int) -> str:
    """Rowid and bytes of texts and blobs of the first `rows` rows, in rowid order, after a row of zeroes."""
    return (
        "SELECT 0 AS rowid, 0 AS bytes UNION ALL SELECT * FROM ("
        f"SELECT {rowid_of(table)}, {_bytes_of_row(table, read_types)} "
        f"{rows_of(table, window)} ORDER BY 1 LIMIT {rows})"
    )


def stretch_bytes(
    table: Table, read_types: ReadTypes, whole: RowidRange, *, window: int, step: int, overhead: int
) -> str:
    """The last rowid of each stretch of `whole`, ascending, and the bytes of its rows with `overhead` for each.

    A stretch has `step` rowids, but none crosses the end of a window of `window` rowids.
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
        f"WITH RECURSIVE point(r) AS (SELECT {window.first_rowid} UNION ALL "
        f"SELECT point.r + {step} FROM point WHERE point.r <= {window.last_rowid} - {step}) "
        f"SELECT count(*) AS rows, ifnull(sum({_bytes_of_row(table, read_types)}), 0) AS bytes FROM point "
        f"CROSS JOIN {named(table)} ON {rowid_of(table)} = point.r"
    )


def misfits(table: Table, read_types: ReadTypes, partition: RowidRange) -> str:
    """For each carried column, 1 if the partition has a cell that its read type cannot carry, else 0."""
    flags = [
        f"ifnull(max(typeof({cell_of(column.name)}) NOT IN ({_CLASSES[read_type]})), 0) AS c{position}"
        if read_type in _CLASSES
        else f"0 AS c{position}"
        for position, (column, read_type) in enumerate(zip(table.carried, read_types.types, strict=True))
    ]
    return f"SELECT {', '.join(flags)} {rows_of(table, partition)}"


def count(table: Table, piece: RowidRange) -> str:
    """How many rows the piece has."""
    return f"SELECT count(*) AS rows {rows_of(table, piece)}"


def _bytes_of_row(table: Table, read_types: ReadTypes) -> str:
    terms = [
        _bytes_of_cell(cell_of(column.name), read_type)
        for column, read_type in zip(table.carried, read_types.types, strict=True)
        if read_type not in (ReadType.INTEGER, ReadType.REAL)
    ]
    return _sum(terms[::-1] or ["0"])  # the last column first: see `ReadTypes.grouped`


def _bytes_of_cell(cell: str, read_type: ReadType) -> str:
    # octet_length of a text or blob needs no overflow page, so a row of megabytes costs no more than its header.
    size = f"ifnull(octet_length({cell}), 0)"
    if read_type is not ReadType.VARIANT:
        return size
    # octet_length of a number makes a text of it first, which takes ten times as long.
    return f"CASE typeof({cell}) WHEN 'integer' THEN 0 WHEN 'real' THEN 0 ELSE {size} END"


def _sum(terms: Sequence[str]) -> str:
    """A balanced sum: an expression may be only 1,000 deep, and a table has up to 2,000 columns."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_sum(terms[:half])} + {_sum(terms[half:])})"


def sample(table: Table, names: list[str], piece: RowidRange, *, rows: int) -> str:
    """The first `rows` rows of the range: the key, then the storage class of each named column."""
    # typeof() needs no overflow page, so a row of megabytes costs no more than its header.
    classes = [f"typeof({cell_of(name)})" for name in names]
    return (
        f"SELECT {', '.join([cell_of(table.key.name), *classes])} "
        f"{rows_of(table, piece)} ORDER BY {rowid_of(table)} LIMIT {rows}"
    )


def column_bytes(table: Table, first: int, last: int, *, rows: int) -> str:
    """The mean bytes of each column's cells, over `rows` rows from `first` up and as many from `last` down."""
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


def reach(table: Table, piece: RowidRange, *, rows: int) -> str:
    """How many rows the range has, up to `rows`, and the last rowid of those."""
    rowid = rowid_of(table)
    some = f"SELECT {rowid} AS r {rows_of(table, piece)} ORDER BY {rowid} LIMIT {rows}"
    return f"SELECT count(*), max(found.r) FROM ({some}) AS found"


def some_above(table: Table, rowid: int | None, *, most: int) -> str:
    """How many rows are above the rowid (None: in all), up to `most`."""
    return f"SELECT count(*) FROM (SELECT 1 {_above(table, rowid)} LIMIT {most})"


def ends_above(table: Table, rowid: int | None) -> str:
    """The least and the greatest rowid above that one (None: of all)."""
    name, above = rowid_of(table), _above(table, rowid)
    return f"SELECT (SELECT min({name}) {above}), (SELECT max({name}) {above})"


def _above(table: Table, rowid: int | None) -> str:
    where = "" if rowid is None else f" WHERE {rowid_of(table)} > {rowid}"
    return f"FROM {named(table)} NOT INDEXED{where}"
