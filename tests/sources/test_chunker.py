"""Read tasks: few connections however small the windows, little memory however large the rows."""

import sqlite3
from contextlib import closing

import pytest

from tests.reads import Reads
from tests.workplace import Workplace, differences, migrate


@pytest.mark.parametrize("rowids", [(-1, 274_877_906_944), tuple(range(1, 3_000)), tuple(range(7, 900_000, 301))])
def test_windows_of_one_row_take_no_more_connections_than_readers(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, rowids: tuple[int, ...]
) -> None:
    workplace.script("CREATE TABLE clients (k TEXT)")
    workplace.script(*(f"INSERT INTO clients (rowid, k) VALUES ({rowid}, 'key {rowid}')" for rowid in rowids))
    reads = Reads(monkeypatch)
    environ = workplace.environ(BATCH_SIZE=1, READERS=2)
    assert migrate(environ) == 0
    assert max(reads.queries) <= 2
    assert len(reads.tables) < 20
    assert differences(environ) == []


def test_a_lost_shard_with_many_small_windows_is_rebuilt_in_few_reads(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.script("CREATE TABLE clients (k TEXT)")
    keys = "WITH RECURSIVE n(i) AS (SELECT -999 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i, 'k' || i FROM n"
    workplace.script(f"INSERT INTO clients (rowid, k) {keys}")
    environ = workplace.environ(BATCH_SIZE=5, READERS=2)
    assert migrate(environ) == 0
    (workplace.shards / "clients_shard_01.db").unlink()
    reads = Reads(monkeypatch)
    assert migrate(environ) == 0
    assert len(reads.tables) <= 4  # below zero and above: rows are measured, then read
    assert differences(environ) == []
    with closing(sqlite3.connect(workplace.shards / "clients_shard_01.db")) as shard:
        assert shard.execute("SELECT count(*), max(last_rowid - first_rowid) FROM _etl_windows").fetchone() == (301, 9)


def test_the_key_is_not_mistaken_for_a_column_that_differs_by_the_case_of_a_letter_beyond_ascii(
    workplace: Workplace,
) -> None:
    workplace.script(
        'CREATE TABLE clients ("Я" TEXT, "я" TEXT)',
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) "
        "INSERT INTO clients SELECT 'upper ' || i, 'lower ' || i FROM n",
    )
    environ = workplace.environ(SHARD_KEY="Я", INDEX_COLUMNS="Я,я")
    assert migrate(environ) == 0
    assert differences(environ) == []


def test_shards_of_an_empty_table_take_the_first_rows_even_after_a_kill(workplace: Workplace) -> None:
    workplace.script("CREATE TABLE clients (k TEXT)")
    environ = workplace.environ()
    assert migrate(environ) == 0
    workplace.script("INSERT INTO clients VALUES ('a'), ('b'), ('c'), ('d')")
    assert migrate(environ) == 0
    (workplace.shards / "clients_shard_01.db").unlink()
    assert migrate(environ) == 0
    assert differences(environ) == []


def test_a_stretch_of_large_rows_is_read_in_small_parts(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace.script(
        "CREATE TABLE clients (k TEXT, note TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 260000) INSERT INTO clients "
        "SELECT 'key ' || i, CASE WHEN i BETWEEN 164001 AND 196000 THEN printf('%02000d', i) ELSE 'short' END FROM n",
    )
    monkeypatch.setattr("etl.runtime.limits.READ_TASK_BYTES", 4 << 20)
    environ = workplace.environ(BATCH_SIZE=2_000, READERS=2)
    reads = Reads(monkeypatch)
    assert migrate(environ) == 0
    assert max(table.nbytes for table in reads.tables if "c0" in table.column_names) < 1.5 * (4 << 20)
    assert differences(environ) == []
