"""Any table, with difficult names, types and cells: a scan returns the shards' cells exactly or says why it cannot."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, note
from hypothesis import strategies as st
from polars.selectors import by_name

import etl
from etl.core.errors import EtlError
from etl.report import data, run_sections, shard_sections
from tests.oracle import quoted, rowid_name
from tests.tables import Table, build, tables
from tests.workplace import Workplace, migrate, shard_files

Cells = list[tuple[str, Any]]
"""A column: `typeof` and value of each cell; text as bytes in the file's encoding."""


def columns_of(paths: list[Path], table: Table) -> dict[str, Cells]:
    found: dict[str, Cells] = {column.name: [] for column in table.columns}
    for path in paths:
        with closing(sqlite3.connect(path)) as database:
            database.text_factory = bytes
            order = rowid_name(database, table.name)
            for name in found:
                cell = quoted(name)
                value = f"CASE typeof({cell}) WHEN 'text' THEN CAST({cell} AS BLOB) ELSE {cell} END"
                query = f"SELECT typeof({cell}), {value} FROM {quoted(table.name)} ORDER BY {order}"
                found[name] += [(kind.decode(), value) for kind, value in database.execute(query)]
    return found


def any_cell(value: dict[str, Any] | None) -> tuple[str, Any]:
    """`typeof` and value of a cell in a column scanned as mixed."""
    if value is None:
        return "null", None
    storage_class = value["storage_class"]
    return storage_class, value["bytes" if storage_class in ("text", "blob") else storage_class]


@given(
    table=tables(),
    num_shards=st.integers(1, 4),
    reserved_shard=st.integers(0, 5),
    limit=st.integers(0, 9),
)
def test_any_table_is_scanned_exactly_or_refused(
    *, table: Table, num_shards: int, reserved_shard: int, limit: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Workplace(Path(directory))
        build(table, place.source)
        note(table.ddl)
        numbers = {"NUM_SHARDS": num_shards, "RESERVED_SHARD": reserved_shard}
        environ = place.environ(TABLE_NAME=table.name, SHARD_KEY=table.key, **numbers)
        assert migrate(environ) == 0
        expected = columns_of(shard_files(environ), table)
        names = list(expected)

        mixed = etl.scan_shards(place.shards, mixed=names).collect()
        assert {name: list(map(any_cell, mixed[name])) for name in names} == expected
        assert etl.scan_shards(place.shards, mixed=names).head(limit).collect().equals(mixed.head(limit))

        for name, cells in expected.items():
            column = scanned_without_mixed(place, name)
            if column is None or column.dtype == pl.Struct:
                continue
            values = [bytes_of(value, table.encoding) for value in column]
            assert values == [value for _, value in cells], "numbers are equal, and texts have equal bytes"
            assert len({storage_class for storage_class, _ in cells} - {"null", "integer"}) <= 1
            assert_nulls_are_found(place, name, cells)

        assert_report_counts(place, rows=mixed.height)


def scanned_without_mixed(place: Workplace, name: str) -> pl.Series | None:
    """The column without `mixed`; None if the scan says that a cell does not fit."""
    try:
        return etl.scan_shards(place.shards).select(by_name(name)).collect()[name]
    except EtlError as error:
        assert str(EtlError(f"column {name}: expected cells that fit")) in str(error)  # noqa: PT017 - both outcomes are right
        return None


def bytes_of(value: Any, encoding: str) -> Any:
    return value.encode(encoding, "surrogatepass") if isinstance(value, str) else value


def assert_nulls_are_found(place: Workplace, name: str, cells: Cells) -> None:
    column = by_name(name).as_expr()  # pl.col takes a name such as * for a pattern
    found = etl.scan_shards(place.shards).filter(column.is_null()).select(column).collect().height
    assert found == sum(storage_class == "null" for storage_class, _ in cells)


def assert_report_counts(place: Workplace, *, rows: int) -> None:
    found = data.inspect(place.shards)
    assert (found.rows, found.shards["sampled"].sum(), found.shards["misplaced"].sum()) == (rows, rows, 0)
    assert sum([*found.shards["keyless"], *found.hash_shards["rows"]]) == rows
    assert "**No" not in shard_sections.misplaced_verdict(found)
    assert run_sections.windows_verdict(found)
