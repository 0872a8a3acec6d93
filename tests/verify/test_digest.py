"""Fingerprints: the vectorised form is the scalar one for every read type, and no two rows have the same."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, note
from hypothesis import strategies as st

from etl.core.columns import ROWID, ReadTypes
from etl.core.model import ReadType, Table
from etl.sources import schema
from etl.sources.reader import Source
from etl.sources.row_stream import of_source
from etl.verify import digest
from tests.fingerprint import HIGH, LOW, MASK, STEP, TAGS, Cell, bytes_of, fingerprint, xxh64
from tests.oracle import opened, quoted, rowid_name
from tests.tables import Table as DrawnTable
from tests.tables import build, tables

KNOWN_HASHES = {
    b"": 0xEF46DB3751D8E999,
    b"a": 0xD24EC4F1A98C6E5B,
    b"abc": 0x44BC2CF5AD770999,
    b"Nobody inspects the spammish repetition": 0xFBCEA83C8A378BF1,
}
"""From xxHash's own documents and those of its Python binding."""
UNLIKE = ["NULL", "''", "x''", "0", "'0'", "x'30'", "0.0", "-0.0", "1", "1.0", "'1'", "-1", "'null'", "9e999", "-9e999"]


def by_lanes(path: Path, table: Table, *, exact: bool) -> dict[int, tuple[int, int]]:
    source = Source(path, table)
    read_types = ReadTypes(tuple(ReadType.VARIANT for _ in table.carried)) if exact else None
    _, rowids = schema.inspect(path, table.name, table.key.name)
    found: dict[int, tuple[int, int]] = {}
    for portion in of_source(source, (rowids,) if rowids else (), read_types):
        low, high = digest.fingerprints(portion.frame, table, portion.read_types)
        found |= dict(zip(portion.frame[ROWID], zip(low.tolist(), high.tolist(), strict=True), strict=True))
    return found


def by_cells(path: Path, table: Table) -> dict[int, tuple[int, int]]:
    return {rowid: fingerprint(rowid, cells) for rowid, cells in stored_cells(path, table)}


def stored_cells(path: Path, table: Table) -> Iterator[tuple[int, list[Cell]]]:
    with closing(opened(path)) as database:
        exact = "typeof({0}), CASE typeof({0}) WHEN 'text' THEN CAST({0} AS BLOB) ELSE {0} END"
        written = "".join(f", {exact.format(quoted(column.name))}" for column in table.written)
        rowid = rowid_name(database, table.name)
        for first, *rest in database.execute(f"SELECT {rowid}{written} FROM {quoted(table.name)}"):
            yield first, [(str(tag, "ascii"), value) for tag, value in zip(rest[::2], rest[1::2], strict=True)]


@pytest.mark.parametrize(("data", "expected"), KNOWN_HASHES.items())
def test_the_scalar_hash_is_xxh64(data: bytes, expected: int) -> None:
    assert xxh64(data) == expected


@given(data=st.lists(st.none() | st.binary(max_size=200), min_size=1))
def test_the_vectorised_hash_is_xxh64(data: list[bytes | None]) -> None:
    hashes = pl.DataFrame({"c": pl.Series(data, dtype=pl.Binary)}).select(pl.col("c").nchash.xxhash64())["c"]  # type: ignore[attr-defined]  # plugin
    assert hashes.to_list() == [None if each is None else xxh64(each) for each in data]


@given(hashed=st.integers(0, MASK))
def test_eight_bytes_have_any_hash(hashed: int) -> None:
    assert xxh64(bytes_of(hashed)) == hashed


@given(table=tables())
def test_any_row_has_the_fingerprint_of_its_cells_in_any_lanes(table: DrawnTable) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "source.db"
        build(table, path)
        note(table.ddl)
        found, _ = schema.inspect(path, table.name, table.key)
        assume(table.rows)
        expected = by_cells(path, found)
        assert by_lanes(path, found, exact=False) == expected
        assert by_lanes(path, found, exact=True) == expected


def made(path: Path, *statements: str) -> Table:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)
    return schema.inspect(path, "t", "k")[0]


def test_cells_that_differ_in_class_or_value_differ_in_fingerprint(tmp_path: Path) -> None:
    prints = []
    for number, cell in enumerate(UNLIKE):
        path = tmp_path / f"{number}.db"
        prints.append(by_lanes(path, made(path, "CREATE TABLE t (k)", f"INSERT INTO t VALUES ({cell})"), exact=True)[1])
    assert all(ours[0] != theirs[0] and ours[1] != theirs[1] for ours, theirs in combinations(prints, 2))


NUMBERS = (0, 1, 2**63 - 1, 2**63, MASK, 7046029254386353131, 0x3FF0 << 48, 0x7FF8 << 48, 0x7FF0 << 48 | 1)
"""64 bits that are 0.0, the least integer or -0.0, NULL's word in version 0.1, 1.0, and two that are no number."""
PAYLOADS = {(number + times * by) & MASK for number in NUMBERS for by in (STEP, LOW, HIGH) for times in range(-8, 9)}


def test_cells_of_any_class_and_any_64_bits_have_different_fingerprints(tmp_path: Path) -> None:
    cells = [(0, 0), *((tag, payload) for tag in range(1, len(TAGS)) for payload in PAYLOADS)]
    tags, payloads = (np.array(column, np.uint64) for column in zip(*cells, strict=True))
    data = [bytes_of(payload) if tag > 2 else None for tag, payload in cells]
    table = made(tmp_path / "t.db", "CREATE TABLE t (k)")
    read_types = ReadTypes((ReadType.VARIANT,))
    tag, integer, real, blob = read_types.frame_columns(0)
    frame = pl.DataFrame(
        {
            ROWID: np.full(len(cells), 7),
            tag: tags.astype(np.int64),
            integer: pl.Series(payloads.view(np.int64)).set(pl.Series(tags != 1), None),
            real: pl.Series(payloads.view(np.float64)).set(pl.Series(tags != 2), None),
            blob: pl.Series(data, dtype=pl.Binary),
        }
    )
    low, high = digest.fingerprints(frame, table, read_types)
    assert len(set(zip(low.tolist(), high.tolist(), strict=True))) == len(set(cells))


SUMS_ALIKE = {
    "cells swapped between rows": ("('a', 1), ('b', 2)", "('a', 2), ('b', 1)"),
    "cells swapped between columns": ("(1, 2), (2, 1)", "(2, 1), (1, 2)"),
    "rows swapped": ("('a', 1), ('b', 2)", "('b', 2), ('a', 1)"),
    "what one gains another loses": ("(5, 1), (6, 1)", "(4, 1), (7, 1)"),
    "two signs flipped": ("(0.5, 0.25), (1.5, 2.5)", "(-0.5, -0.25), (1.5, 2.5)"),
    "a row twice, another not": ("('a', 1), ('b', 2), ('a', 1)", "('a', 1), ('b', 2), ('b', 2)"),
}


@pytest.mark.parametrize(("before", "after"), SUMS_ALIKE.values(), ids=SUMS_ALIKE.keys())
def test_rows_whose_cells_add_up_alike_do_not_sum_alike(tmp_path: Path, before: str, after: str) -> None:
    sums = []
    for name, rows in (("before", before), ("after", after)):
        path = tmp_path / f"{name}.db"
        table = made(path, "CREATE TABLE t (k, n)", f"INSERT INTO t VALUES {rows}")
        sums.append(np.array(list(by_lanes(path, table, exact=False).values()), np.uint64).sum(axis=0))
    assert (sums[0] != sums[1]).all()


def test_rowids_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    table = made(path, "CREATE TABLE t (k)", "INSERT INTO t VALUES ('same'), ('same')")
    first, second = by_lanes(path, table, exact=False).values()
    assert first[0] != second[0]
    assert first[1] != second[1]
