"""SQL text of a shard beside its source: how rows are compared, and how they are replaced.

In a comparison the source is `s`, on its own connection, and the shard is `m`, attached. A replacement runs on the
shard's own connection, to which the source is attached. The rowids that it is about, the chosen ones, are in a
temporary table of the connection, `etl_rowids`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etl.core.model import WINDOWS_TABLE, Affinity, Column, RowidRange, Table
from etl.sqlite.sql import literal, quote

SOURCE = "src"
"""The schema under which a replacement has the source attached."""
CREATE_ROWIDS = "CREATE TEMP TABLE IF NOT EXISTS etl_rowids (id INTEGER PRIMARY KEY)"
CLEAR_ROWIDS = "DELETE FROM temp.etl_rowids"
INSERT_ROWID = "INSERT INTO temp.etl_rowids VALUES (?)"
_CHOSEN = "IN (SELECT r.id FROM temp.etl_rowids AS r)"
CREATE_REMOVED = "CREATE TEMP TABLE etl_removed (id INTEGER PRIMARY KEY)"
REMOVED = "SELECT d.id FROM temp.etl_removed AS d"


def shard_schema(number: int) -> str:
    """The schema under which a comparison has its shards attached, numbered from 0."""
    return f"shard{number}"


def compared(table: Table, number: int, key: Mapping[str, str], piece: RowidRange) -> str:
    """A shard's rows in a range: rowid, the columns of `key`, and state: 0 absent in the source, 1 changed, 2 same."""
    return _compared(table, shard_schema(number), key, _between("m", table, piece))


def compared_chosen(table: Table, number: int) -> str:
    """A shard's rows at the chosen rowids: rowid and state."""
    return _compared(table, shard_schema(number), {}, f"m.{quote(table.rowid_name)} {_CHOSEN}")


def source_compared(table: Table, piece: RowidRange) -> str:
    """The same for the source beside itself: it reads all that a comparison reads of the source."""
    return _compared(table, "main", {}, _between("m", table, piece))


def _compared(table: Table, schema: str, key: Mapping[str, str], where: str) -> str:
    name, rowid = quote(table.name), quote(table.rowid_name)
    state = f"CASE WHEN s.{rowid} IS NULL THEN 0 ELSE 1 + {_all([_same(column) for column in table.written])} END"
    return (
        f"SELECT m.{rowid} AS rowid, {_named(key)}{state} AS state FROM {schema}.{name} AS m NOT INDEXED "
        f"LEFT JOIN main.{name} AS s ON s.{rowid} = m.{rowid} WHERE {where}"
    )


def source_keys(table: Table, key: Mapping[str, str], piece: RowidRange) -> str:
    """The source's rows in a range, in the same columns."""
    return f"SELECT s.{quote(table.rowid_name)} AS rowid, {_named(key)}2 AS state {_of_source(table, piece)}"


def source_count(table: Table, piece: RowidRange) -> str:
    """How many rows the source has in a range."""
    return f"SELECT count(*) {_of_source(table, piece)}"


def _of_source(table: Table, piece: RowidRange) -> str:
    return f"FROM main.{quote(table.name)} AS s NOT INDEXED WHERE {_between('s', table, piece)}"


def _between(alias: str, table: Table, piece: RowidRange) -> str:
    return f"{alias}.{quote(table.rowid_name)} BETWEEN {piece.first_rowid} AND {piece.last_rowid}"


def _named(columns: Mapping[str, str]) -> str:
    return "".join(f"{expression} AS {name}, " for name, expression in columns.items())


def _same(column: Column) -> str:
    """Whether a cell is the same. IS takes equal integers and reals for the same, and both zeroes among the reals.

    Text and blob are never equal. SQLite stores no number in a TEXT column (the check of a file finds one that an
    edited schema let in), and reads each number of a REAL column as a real. It stores a negative zero only in a column
    that converts nothing; only atan2 tells it.
    """
    m, s = (f"{alias}.{quote(column.name)}" for alias in ("m", "s"))
    same = f"{m} IS {s} COLLATE BINARY"
    if column.affinity not in (Affinity.TEXT, Affinity.REAL):
        same += f" AND typeof({m}) = typeof({s})"
    if column.affinity is Affinity.BLOB:
        same += f" AND ({m} IS NOT 0.0 OR atan2(0.0, {m}) IS atan2(0.0, {s}))"
    return same


def _all(terms: Sequence[str]) -> str:
    """A balanced AND: an expression may be only 1,000 deep, and a table has up to 2,000 columns."""
    if len(terms) <= 1:
        return f"({terms[0] if terms else 1})"
    half = len(terms) // 2
    return f"({_all(terms[:half])} AND {_all(terms[half:])})"


def chosen_keys(table: Table, key: Mapping[str, str]) -> str:
    """The source's rows among the chosen rowids, in the columns of `source_keys`."""
    name, rowid = quote(table.name), quote(table.rowid_name)
    return (
        f"SELECT s.{rowid} AS rowid, {_named(key)}2 AS state FROM main.{name} AS s WHERE s.{rowid} {_CHOSEN} ORDER BY 1"
    )


def present(table: Table) -> str:
    """The chosen rowids that the shard has."""
    rowid = quote(table.rowid_name)
    return f"SELECT r.id FROM temp.etl_rowids AS r CROSS JOIN main.{quote(table.name)} AS m ON m.{rowid} = r.id"


def foreign(table: Table) -> str:
    """The chosen rowids in no window of the ledger, or in one in which the shard has more rows than the ledger says."""
    rowid = f"m.{quote(table.rowid_name)}"
    counted = (
        f"SELECT count(*) FROM main.{quote(table.name)} AS m NOT INDEXED "
        f"WHERE {rowid} BETWEEN w.first_rowid AND w.last_rowid"
    )
    within = "r.id BETWEEN w.first_rowid AND w.last_rowid"
    crowded = (
        f"SELECT w.first_rowid AS first, w.last_rowid AS last FROM main.{WINDOWS_TABLE} AS w "
        f"WHERE EXISTS (SELECT 1 FROM temp.etl_rowids AS r WHERE {within}) AND ({counted}) > w.rows"
    )
    found = (
        f"SELECT w.last_rowid >= r.id FROM main.{WINDOWS_TABLE} AS w WHERE w.first_rowid <= r.id "
        "ORDER BY w.first_rowid DESC LIMIT 1"
    )
    return (
        f"WITH crowded AS MATERIALIZED ({crowded}) SELECT r.id FROM temp.etl_rowids AS r "
        f"WHERE NOT ifnull(({found}), 0) OR EXISTS (SELECT 1 FROM crowded AS c WHERE r.id BETWEEN c.first AND c.last)"
    )


# -- rows updated since the last run -----------------------------------------------------------------------------------

CREATE_CURSOR = "CREATE TEMP TABLE etl_cursor (value)"
"""Without a type, so that a comparison with it converts nothing."""
CREATE_UPDATED = "CREATE TEMP TABLE etl_updated (id INTEGER PRIMARY KEY)"


def set_cursor(*, is_text: bool) -> str:
    return f"INSERT INTO temp.etl_cursor VALUES ({'CAST(?1 AS TEXT)' if is_text else '?1'})"


def greatest_cursor(table: Table, column: str) -> str:
    """The storage class and the greatest cell of the column, by its own collation; a text as its bytes."""
    greatest = f"SELECT max(s.{quote(column)}) AS value FROM main.{quote(table.name)} AS s"
    cell = "CASE typeof(g.value) WHEN 'text' THEN CAST(g.value AS BLOB) ELSE g.value END"
    return f"SELECT typeof(g.value), {cell} FROM ({greatest}) AS g"


def note_updated(table: Table, column: str, *, is_open: bool) -> str:
    """Notes the rowids of rows whose cursor is at or above the one that was set, or, if `is_open`, not NULL.

    No ORDER BY: SQLite would rather read the whole table in order than search an index.
    """
    rows = f"FROM main.{quote(table.name)} AS s"
    cell = f"s.{quote(column)}"
    where = (
        f"NOT INDEXED WHERE {cell} IS NOT NULL"
        if is_open
        else f"WHERE {cell} >= (SELECT c.value FROM temp.etl_cursor AS c)"
    )
    return f"INSERT INTO temp.etl_updated SELECT s.{quote(table.rowid_name)} {rows} {where}"


def updated(piece: RowidRange, *, rows: int) -> str:
    """The first of the noted rowids in a range, ascending."""
    return (
        f"SELECT u.id FROM temp.etl_updated AS u WHERE u.id BETWEEN {piece.first_rowid} AND {piece.last_rowid} "
        f"ORDER BY u.id LIMIT {rows}"
    )


# -- rows replaced -----------------------------------------------------------------------------------------------------


def delete_chosen(table: Table) -> str:
    """Deletes the chosen rowids from the shard."""
    return f"DELETE FROM main.{quote(table.name)} AS m WHERE m.{quote(table.rowid_name)} {_CHOSEN}"


def copy_chosen(table: Table, conflict: str) -> str:
    """Inserts the source's rows at the chosen rowids into the shard, cell for cell."""
    names = [quote(name) for name in (table.rowid_name, *(column.name for column in table.written))]
    cells = ", ".join(f"s.{name}" for name in names)
    return (
        f"INSERT OR {conflict} INTO main.{quote(table.name)} ({', '.join(names)}) SELECT {cells} "
        f"FROM {SOURCE}.{quote(table.name)} AS s WHERE s.{names[0]} {_CHOSEN} ORDER BY 1"
    )


def note_removed(table: Table) -> str:
    """A trigger that notes each rowid which REPLACE deletes; it needs PRAGMA recursive_triggers."""
    return (
        f"CREATE TEMP TRIGGER etl_remove AFTER DELETE ON main.{quote(table.name)} "
        f"BEGIN INSERT OR IGNORE INTO etl_removed VALUES (OLD.{quote(table.rowid_name)}); END"
    )


def count_chosen(table: Table, sign: str, now: str) -> str:
    """Adds (`+`) or subtracts (`-`), in the ledger's windows, the chosen rows that the shard has.

    The line keeps its run: a ledger's first run tells since when the shard is there.
    """
    rowid = f"m.{quote(table.rowid_name)}"
    chosen = "FROM temp.etl_rowids AS r {} WHERE r.id BETWEEN w.first_rowid AND w.last_rowid"
    present = chosen.format(f"CROSS JOIN main.{quote(table.name)} AS m ON {rowid} = r.id")
    return (
        f"UPDATE main.{WINDOWS_TABLE} AS w SET rows = w.rows {sign} (SELECT count(*) {present}), "
        f"committed_at = {literal(now)} WHERE EXISTS (SELECT 1 {chosen.format('')})"
    )


def correct_window(table: Table, window: RowidRange, run_id: str, now: str, *, foreign: int) -> tuple[str, ...]:
    """Makes the ledger have exactly this window, with the number of its rows but for the `foreign` ones."""
    first, last = window.first_rowid, window.last_rowid
    lines = f"main.{WINDOWS_TABLE}"
    overlap = f"w.first_rowid <= {last} AND w.last_rowid >= {first}"
    run = f"ifnull((SELECT min(w.run_id) FROM {lines} AS w WHERE {overlap}), {literal(run_id)})"
    counted = f"{first}, {last}, count(*) - {foreign}, {run}, {literal(now)}"
    rows = f"main.{quote(table.name)} AS m NOT INDEXED WHERE {_between('m', table, window)}"
    return (
        f"INSERT OR REPLACE INTO {lines} SELECT {counted} FROM {rows}",
        f"DELETE FROM {lines} AS w WHERE {overlap} AND w.first_rowid <> {first}",
    )
