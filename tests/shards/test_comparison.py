"""The comparison inside SQLite: a cell is the same if it has the same storage class and the same bits."""

import itertools
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from etl.core.errors import EtlError
from etl.core.model import RowidRange, ShardMap
from etl.shards.comparison import ABSENT, CHANGED, SAME, ComparedRows, Comparison
from etl.sources import schema
from etl.sqlite.adbc import ShardError
from etl.sqlite.utf16 import utf8_converter
from tests.oracle import expected_shard

Cell = int | float | str | bytes | None

CELLS: list[Cell] = [
    *(None, 0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)),
    *(0.0, -0.0, 1.0, -1.0, 2.0**53, 2.0**63, 0.1, 0.1 + 2**-56, float("inf"), float("-inf"), 5e-324),
    *("", "a", "A", "a ", "a\0b", "a\0c", "0", "1", "1.0", "0.0", "-0.0", "é", "e\u0301", "\ufffd"),
    *(b"", b"a", b"a\0b", b"0", b"1", b"\xff"),
]
DECLARED = ["", "TEXT", "TEXT COLLATE NOCASE", "INTEGER", "REAL", "NUMERIC", "BLOB"]


def build(path: Path, declared: str, cells: list[Cell], encoding: str = "UTF-8", *, width: int = 1) -> None:
    columns = ", ".join(f"c{position} {declared}" for position in range(width))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"PRAGMA encoding = '{encoding}'")
        database.execute(f"CREATE TABLE t (k, {columns})")
        database.executemany(
            f"INSERT INTO t (rowid, k, c{width - 1}) VALUES (?, ?, ?)",
            ((i, f"k{i}", cell) for i, cell in enumerate(cells)),
        )


def compared(source: Path, shard: Path, *, key: str = "k", shards: int = 3) -> ComparedRows:
    table, rowids = schema.inspect(source, "t", key)
    with utf8_converter(table.encoding) as utf8:
        comparison = Comparison(source, table, ShardMap(shards, shards), rowids, utf8)
        with comparison.open() as connection:
            comparison.attach(connection, shard, 0)
            everything = RowidRange(-(2**63), 2**63 - 1)
            return ComparedRows.joined(list(comparison.rows(connection, shard, 0, everything)))


def key_bytes(cell: Cell) -> bytes | None:
    """The text of a cell that is hashed, by the contract."""
    match cell:
        case str():
            return cell.encode("utf-8")
        case int():
            return str(cell).encode()
        case _:
            assert not isinstance(cell, float)
            return cell


def stored(path: Path) -> list[tuple[str, object]]:
    """Storage class and bits of the cells in the last column, as the file has them."""
    with closing(sqlite3.connect(path)) as database:
        database.text_factory = bytes
        column = database.execute("SELECT * FROM t").description[-1][0]
        rows = database.execute(f"SELECT typeof({column}), {column} FROM t ORDER BY rowid").fetchall()
    return [(kind, struct.pack("<d", cell) if isinstance(cell, float) else cell) for kind, cell in rows]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
@pytest.mark.parametrize("declared", DECLARED)
def test_only_the_same_class_and_bits_are_the_same(tmp_path: Path, declared: str, encoding: str) -> None:
    pairs = list(itertools.product(CELLS, CELLS))
    source, shard = tmp_path / "source.db", tmp_path / "shard.db"
    build(source, declared, [cell for cell, _ in pairs], encoding)
    build(shard, declared, [cell for _, cell in pairs], encoding)
    expected = [SAME if a == b else CHANGED for a, b in zip(stored(source), stored(shard), strict=True)]
    assert SAME in expected
    assert CHANGED in expected
    assert compared(source, shard).states.tolist() == expected


def test_the_last_of_two_thousand_columns_counts(tmp_path: Path) -> None:
    source, shard = tmp_path / "source.db", tmp_path / "shard.db"
    build(source, "", [None, 1, 1], width=1_999)
    build(shard, "", [None, 1, 1.0], width=1_999)
    assert compared(source, shard).states.tolist() == [SAME, SAME, CHANGED]


def test_a_row_that_the_source_lacks_is_absent_even_if_every_cell_is_null(tmp_path: Path) -> None:
    source, shard = tmp_path / "source.db", tmp_path / "shard.db"
    build(source, "", [1])
    build(shard, "", [1, 2])
    with closing(sqlite3.connect(shard)) as database, database:
        database.execute("UPDATE t SET k = NULL, c0 = NULL WHERE rowid = 1")
    assert compared(source, shard).states.tolist() == [SAME, ABSENT]


@given(
    keys=st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(), st.binary())),
    declared=st.sampled_from(["", "TEXT", "INTEGER"]),
    encoding=st.sampled_from(["UTF-8", "UTF-16be"]),
)
def test_each_key_is_routed_as_the_scalar_rule_says(
    tmp_path_factory: pytest.TempPathFactory, keys: list[Cell], declared: str, encoding: str
) -> None:
    path = tmp_path_factory.mktemp("keys") / "source.db"
    keys = [key for key in keys if not isinstance(key, str) or key.isprintable()]  # not a digit that becomes a real
    build(path, declared, keys, encoding)
    with closing(sqlite3.connect(path)) as database:
        cells = [cell for (cell,) in database.execute("SELECT c0 FROM t ORDER BY rowid")]
    assume(not any(isinstance(cell, float) for cell in cells))  # their text has tests of its own
    slots = [expected_shard(key_bytes(cell), num_shards=3, reserved_shard=3) for cell in cells]
    assert compared(path, path, key="c0").slots.tolist() == slots


def test_the_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    source, shard = tmp_path / "source.db", tmp_path / "shard.db"
    for damaged, error, name in ((shard, ShardError, "shard.db"), (source, EtlError, "SOURCE_DB")):
        for path in (source, shard):
            path.unlink(missing_ok=True)
            build(path, "", ["x" * 500] * 1000)
        content = bytearray(damaged.read_bytes())
        content[-8192:] = b"\xff" * 8192
        damaged.write_bytes(content)
        with pytest.raises(error, match=name):
            compared(source, shard)
