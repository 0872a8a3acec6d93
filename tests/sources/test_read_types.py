"""How cells travel: the read type a column starts in, and when it widens."""

from collections.abc import Sequence

import polars as pl
import pytest

from etl.core.columns import first_read_types
from etl.core.model import ReadType
from etl.sources import schema
from tests.completeness import manifest
from tests.reads import Reads
from tests.workplace import Workplace, differences, migrate

SAMPLED = schema.SAMPLED_ROWS
VARIANT = ReadType.VARIANT
# Declared type, cells among the sampled rows, a cell after them, the read type at first, whether it widens.
COLUMNS: list[tuple[str, Sequence[str], str, ReadType, bool]] = [
    ("INTEGER", ["1", "NULL"], "-9223372036854775807 - 1", ReadType.INTEGER, False),
    ("INTEGER", ["NULL"], "NULL", ReadType.INTEGER, False),
    ("INTEGER", ["1"], "'text'", ReadType.INTEGER, True),
    ("INTEGER", ["'text'"], "1", ReadType.INTEGER, True),
    ("INTEGER", ["1"], "1.5", ReadType.INTEGER, True),
    ("INTEGER", ["1"], "9e999", ReadType.INTEGER, True),
    ("INTEGER", ["1"], "x'01'", ReadType.INTEGER, True),
    ("INTEGER", ["'7'"], "7.0", ReadType.INTEGER, False),  # stored as integers
    ("BIGINT UNSIGNED", ["1"], "2", ReadType.INTEGER, False),
    ("TEXT", ["'a'", "NULL", "''"], "1.5", ReadType.TEXT, False),  # stored as text
    ("TEXT", ["'a'"], "'b' || char(0) || 'c'", ReadType.TEXT, False),
    ("TEXT", ["'a'"], "x'61'", ReadType.TEXT, True),
    ("TEXT", ["'a'"], "CAST(x'ff' AS TEXT)", ReadType.TEXT, True),
    ("VARCHAR(9)", ["x'61'"], "'a'", ReadType.TEXT, True),
    ("REAL", ["0.5", "NULL"], "-9e999", ReadType.REAL, False),
    ("REAL", ["1"], "9007199254740993", ReadType.REAL, False),  # stored as reals
    ("REAL", ["0.5"], "'text'", ReadType.REAL, True),
    ("REAL", ["0.5"], "x'00'", ReadType.REAL, True),
    ("FLOATING POINT", ["1"], "2", ReadType.INTEGER, False),  # "POINT" holds "INT"
    ("BLOB", ["x'00'"], "x''", ReadType.BLOB, False),
    ("BLOB", ["x'00'"], "'text'", ReadType.BLOB, True),
    ("BLOB", ["NULL"], "NULL", ReadType.BLOB, False),
    ("BLOB", ["NULL"], "1", ReadType.BLOB, True),
    ("BLOB", ["'text'"], "'text'", ReadType.TEXT, False),
    ("", ["1"], "2", ReadType.INTEGER, False),
    ("", ["1"], "2.0", ReadType.INTEGER, True),
    ("", ["1", "'text'"], "x'00'", VARIANT, False),
    ("", ["0.5"], "1", VARIANT, False),  # read as REAL, the integer would silently become a real
    ("NUMERIC", ["5", "5.25"], "'text'", VARIANT, False),
    ("DECIMAL(10,2)", ["5"], "5.25", ReadType.INTEGER, True),
    ("DECIMAL(10,2)", ["NULL"], "5", ReadType.INTEGER, False),
    ("DECIMAL(10,2)", ["5.25"], "5.25", VARIANT, False),
    ("BOOLEAN", ["1", "0", "2"], "NULL", ReadType.INTEGER, False),
    ("BOOLEAN", ["'true'"], "1", ReadType.TEXT, True),
    ("DATE", ["'2024-1-2'"], "'01.02.2024'", ReadType.TEXT, False),
    ("DATETIME", ["'2024-01-02'"], "1704153600", ReadType.TEXT, True),
    ("STRING", ["'07867'"], "'+7'", ReadType.INTEGER, False),  # NUMERIC: stored as integers
    ("STRING", ["'ab'"], "'7'", ReadType.TEXT, True),
]


def fill(place: Workplace, declared: str, cells: Sequence[str], late: str, encoding: str = "UTF-8") -> None:
    """A table whose column `c` has the cells in turn in the rows that are sampled, and another one after them."""
    turns = " ".join(f"WHEN {turn} THEN {cell}" for turn, cell in enumerate(cells))
    place.script(
        f"PRAGMA encoding = '{encoding}'",
        f"CREATE TABLE clients (k TEXT, c {declared})",
        f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {SAMPLED - 1}) "
        f"INSERT INTO clients SELECT 'k' || i, CASE i % {len(cells)} {turns} END FROM n",
        f"INSERT INTO clients VALUES ('late', {late}), ('last', NULL)",
    )


def read_type_of_c(place: Workplace) -> ReadType:
    table, _ = schema.inspect(place.source, "clients", "k")
    return first_read_types(table).types[1]


def widened(frame: pl.DataFrame) -> set[str]:
    return {name for names in frame["widened"] for name in names}


@pytest.mark.parametrize(("declared", "cells", "late", "read_type", "widens"), COLUMNS)
def test_a_column_starts_in_its_read_type_and_widens_when_a_cell_does_not_fit(
    *, workplace: Workplace, declared: str, cells: Sequence[str], late: str, read_type: ReadType, widens: bool
) -> None:
    fill(workplace, declared, cells, late)
    assert read_type_of_c(workplace) is read_type
    environ = workplace.environ(BATCH_SIZE=500)
    assert migrate(environ) == 0
    assert differences(environ) == []
    assert widened(manifest(environ)) == ({"c"} if widens else set())


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_text_of_a_utf16_source_is_a_variant_from_the_start(workplace: Workplace, encoding: str) -> None:
    fill(workplace, "TEXT", ["'a'"], "x'00'", encoding)
    assert read_type_of_c(workplace) is VARIANT
    environ = workplace.environ()
    assert migrate(environ) == 0
    assert differences(environ) == []
    assert widened(manifest(environ)) == set()


def test_bad_text_in_many_columns_takes_few_reads(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"c{number}" for number in range(60)]
    cells = ["CAST(x'ff' AS TEXT)" if number % 3 else "'пять'" for number in range(60)]
    workplace.script(f"CREATE TABLE clients (k TEXT, {' TEXT, '.join(names)} TEXT)")
    workplace.script(f"INSERT INTO clients VALUES ('a', {', '.join(cells)})")
    reads = Reads(monkeypatch)
    assert migrate(workplace.environ()) == 0
    assert differences(workplace.environ()) == []
    assert widened(manifest(workplace.environ())) == {name for name in names if int(name[1:]) % 3}
    assert len(reads.queries) <= 2


def test_a_column_once_widened_stays_so(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.runtime.limits.READ_TASK_ROWS", 1)
    fill(workplace, "INTEGER", ["1"], "2")
    workplace.script("UPDATE clients SET c = 'text' WHERE rowid = 500")
    environ = workplace.environ(NUM_SHARDS=1, RESERVED_SHARD=1)
    assert migrate(environ) == 0
    windows = manifest(environ).sort("first_rowid")
    assert len(windows) > 9
    assert windows["widened"].list.contains("c").to_list() == [last >= 500 for last in windows["last_rowid"]]
    assert differences(environ) == []
