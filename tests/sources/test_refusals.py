"""More sources and directories that are refused before anything is written (see test_schema)."""

import sqlite3
from contextlib import closing

import polars as pl
import pytest
from adbc_driver_sqlite import dbapi

from etl.core.model import Index
from tests.workplace import Workplace, differences, migrate


def test_a_collation_of_the_application_is_refused(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(workplace.source)) as database, database:
        database.create_collation("mine", lambda left, right: (left > right) - (left < right))
        database.execute("CREATE TABLE clients (k TEXT COLLATE mine)")
    assert migrate(workplace.environ()) == 2
    assert "no such collation sequence: mine" in capfd.readouterr().err
    assert list(workplace.shards.glob("*.db")) == []


def test_a_name_too_long_for_a_file_is_refused(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    name = "t" * 245
    workplace.script(f"CREATE TABLE {name} (k TEXT)")
    assert migrate(workplace.environ(TABLE_NAME=name)) == 2
    assert "shorter" in capfd.readouterr().err


def test_two_tables_share_a_directory_and_keep_their_manifests(workplace: Workplace) -> None:
    workplace.populate(300)
    workplace.script("CREATE TABLE goods (k TEXT)", "INSERT INTO goods VALUES ('a'), ('b'), (NULL)")
    clients, goods = workplace.environ(), workplace.environ(TABLE_NAME="goods")
    assert [migrate(environ) for environ in (clients, goods, clients, goods)] == [0, 0, 0, 0]
    assert differences(clients) == []
    assert differences(goods) == []
    manifest = pl.read_parquet(workplace.shards / "manifest" / "*.parquet")
    rows = manifest.group_by("table_name").agg(pl.col("rows").sum()).sort("table_name")
    assert rows.rows() == [("clients", 300), ("goods", 3)]


def test_a_source_may_use_the_names_in_our_sql(workplace: Workplace) -> None:
    workplace.script(
        "CREATE TABLE grid (k TEXT, r TEXT, source TEXT, bytes TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
        "INSERT INTO grid SELECT 'key ' || i, 'r', 'source', i FROM n",
    )
    environ = workplace.environ(TABLE_NAME="grid")
    assert migrate(environ) == 0
    assert differences(environ) == []


def test_an_index_whose_name_a_shard_needs_is_refused(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    workplace.populate(10)
    workplace.script("CREATE INDEX _etl_windows ON clients (note)")
    assert migrate(workplace.environ()) == 2
    message = capfd.readouterr().err
    assert "_etl_windows" in message
    assert "COPY_INDEXES" in message
    assert list(workplace.shards.glob("*.db")) == []
    assert migrate(workplace.environ(COPY_INDEXES="false")) == 0


def test_a_statement_that_the_writing_sqlite_cannot_run_is_refused_before_a_shard_is_made(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.populate(10)
    index = Index("i", "CREATE INDEX i ON clients (known_to_one_sqlite_only(k))")
    monkeypatch.setattr("etl.sqlite.sql.indexes", lambda *_, **__: (index,))
    assert migrate(workplace.environ()) == 2
    assert "no such function: known_to_one_sqlite_only" in capfd.readouterr().err
    assert list(workplace.shards.glob("*.db")) == []


def test_a_table_with_a_newer_sqlites_function_is_refused_or_migrated(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(dbapi.connect(str(workplace.source), autocommit=True)) as made, closing(made.cursor()) as cursor:
        cursor.execute("CREATE TABLE clients (k TEXT, v AS (concat(k, 'v')))")
        cursor.execute("INSERT INTO clients VALUES ('a')")
    code = migrate(workplace.environ())
    if sqlite3.sqlite_version_info < (3, 44):
        assert code == 2
        assert "unknown function: concat" in capfd.readouterr().err
    else:
        assert code == 0
