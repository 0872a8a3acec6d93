"""Tables of more result columns than one query may have: read in column groups, exact, and each row of one moment."""

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import connectorx
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.completeness import manifest
from tests.oracle import opened
from tests.reads import Reads
from tests.workplace import Workplace, differences, error_line, migrate, shard_files

CELLS = [
    *("NULL", "0", "-9223372036854775807 - 1", "9007199254740993", "0.1", "-0.0", "9e999"),
    *("''", "'a' || char(0) || 'b'", "'пять'", "CAST(x'c3c3' AS TEXT)", "x''", "x'ff00'", "'7'", "7.0"),
]


def fill(place: Workplace, columns: Sequence[str], *rows: Sequence[str], encoding: str = "UTF-8") -> None:
    """A table of these declarations, the first of which is the key's, and rows of SQL expressions."""
    place.script(
        f"PRAGMA encoding = '{encoding}'",
        f"CREATE TABLE clients ({', '.join(columns)})",
        *(f"INSERT INTO clients VALUES ({', '.join(row)})" for row in rows),
    )


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
@pytest.mark.parametrize("columns", [900, 2_000])
def test_every_storage_class_in_every_column_arrives(workplace: Workplace, columns: int, encoding: str) -> None:
    names = ["k", *(f"c{number}" for number in range(1, columns))]
    rows = [list(islice(cycle(CELLS), turn, turn + columns)) for turn in range(len(CELLS))]
    fill(workplace, names, *rows, encoding=encoding)
    environ = workplace.environ(BATCH_SIZE=4)
    assert migrate(environ) == 0
    assert differences(environ) == []
    with closing(sqlite3.connect(shard_files(environ)[0])) as shard, shard:  # the check sees the last column, too
        shard.execute(f"UPDATE clients SET {names[-1]} = 'spoiled'")
    assert f"column '{names[-1]}'" in differences(environ)[0]


def test_columns_of_all_types_widen_in_their_groups(workplace: Workplace) -> None:
    declared = ["INTEGER", "TEXT", "REAL", "BLOB", "INTEGER", "INTEGER", "TEXT"]
    fitting = ["7", "'seven'", "7.5", "x'07'", "-7", "NULL", "''"]
    columns = 1_999
    names = ["k TEXT", *(f"c{number} {each}" for number, each in zip(range(columns), cycle(declared), strict=False))]
    rows = [[f"'{key}'", *islice(cycle(fitting), columns)] for key in range(8)]
    rows[5][1 + 700] = "'no integer'"
    rows[6][1 + 1_121] = "CAST(x'ff' AS TEXT)"
    rows[7][1 + 1_995] = "1.5"
    fill(workplace, names, *rows)
    environ = workplace.environ(BATCH_SIZE=2)
    assert migrate(environ) == 0
    assert differences(environ) == []
    widened = {name for names in manifest(environ)["widened"] for name in names}
    assert widened == {"c700", "c1121", "c1995"}


def test_the_rowid_is_one_of_two_thousand_columns(workplace: Workplace) -> None:
    names = ["id INTEGER PRIMARY KEY", "k TEXT", *(f"c{number}" for number in range(1_998))]
    fill(workplace, names, *([str(key), f"'{key}'", *islice(cycle(CELLS), 1_998)] for key in (-3, 0, 9)))
    assert migrate(workplace.environ()) == 0
    assert differences(workplace.environ()) == []


def test_groups_of_more_rows_than_a_record_batch_arrive(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.runtime.limits.READ_COLUMNS", 11)
    numbers = ", ".join(f"i + {number}" for number in range(12))
    workplace.script(
        f"CREATE TABLE clients (k TEXT, v, {', '.join(f'c{number}' for number in range(12))})",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80000) "
        f"INSERT INTO clients SELECT 'key ' || i, CASE i % 2 WHEN 0 THEN i ELSE 'text' END, {numbers} FROM n",
    )
    environ = workplace.environ(BATCH_SIZE=40_000, READERS=2)
    reads = Reads(monkeypatch)
    assert migrate(environ) == 0
    assert differences(environ) == []
    assert any(len(table.to_batches()) > 2 for table in reads.tables if "column_group" in table.column_names)


def cut_group(real: Any) -> Any:
    """read_sql that loses the last row, which is of the last column group."""

    def read_sql(uri: str, queries: Sequence[str], **options: Any) -> pa.Table:
        table = real(uri, queries, **options)
        if "column_group" not in table.column_names:
            return table
        last = pc.max(table["column_group"])
        kept = [
            batch if batch["column_group"][-1].as_py() != last.as_py() else batch[:-1] for batch in table.to_batches()
        ]
        return pa.Table.from_batches(kept)

    return read_sql


def test_groups_of_other_rows_than_the_first_are_damage(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["k", *(f"c{number}" for number in range(1, 900))]
    fill(workplace, names, *([f"'{key}'"] * 900 for key in range(20)))
    monkeypatch.setattr(connectorx, "read_sql", cut_group(connectorx.read_sql))
    assert migrate(workplace.environ()) == 1
    assert "expected every row, in order, found a gap" in error_line(capfd.readouterr().err)


COLUMNS, ROWS = 1_200, 150
WRITER = """
import sqlite3, sys
path, columns = sys.argv[1], int(sys.argv[2])
database = sqlite3.connect(path, timeout=60, isolation_level=None)
cells = ", ".join(f"c{number} = c0 + 1" for number in range(columns))
print("writing", flush=True)
while True:  # a commit each: all cells of a row are one number, greater than before
    database.execute(f"UPDATE clients SET {cells}")
"""


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_no_row_is_half_old_and_half_new(workplace: Workplace, journal: str) -> None:
    names = ["k", *(f"c{number}" for number in range(COLUMNS))]
    fill(workplace, names, *([f"'{key}'", *["0"] * COLUMNS] for key in range(ROWS)))
    workplace.script(f"PRAGMA journal_mode = {journal}")
    arguments = [sys.executable, "-c", WRITER, str(workplace.source), str(COLUMNS)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        try:
            environs = [workplace.environ(SHARD_DIR=workplace.shards / str(run), BATCH_SIZE=40) for run in range(3)]
            codes = [migrate(environ) for environ in environs]
        finally:
            writer.kill()
            writer.wait()
    assert codes == [0, 0, 0] or journal == "DELETE"  # there the writer may hold its lock for too long
    rows = [row for environ in environs for path in shard_files(environ) for row in cells(path)]
    assert len(rows) == 3 * ROWS or journal == "DELETE"
    assert all(len(set(row)) == 1 for row in rows)
    assert len(set(rows)) > 1, "the writer must have written meanwhile"


def cells(path: Path) -> list[tuple[int, ...]]:
    """The cells of the shard's rows, without the key."""
    with closing(opened(path)) as shard:
        return [row[1:] for row in shard.execute("SELECT * FROM clients")]
