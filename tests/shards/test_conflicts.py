"""A value that must be unique has changed rows in the source: no row is lost, and a repair lets the next run go on."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from etl.sqlite import sql
from etl.verify.command import run
from etl.verify.scope import Scope
from tests.completeness import faults_of
from tests.oracle import opened
from tests.workplace import Workplace, differences, error_line, migrate, shard_files

ROWS = 500
TABLES = {
    "UNIQUE": ("CREATE TABLE clients (k TEXT, u TEXT UNIQUE)",),
    "a primary key of text": ("CREATE TABLE clients (k TEXT, u TEXT PRIMARY KEY ON CONFLICT REPLACE)",),
    **{
        f"UNIQUE ON CONFLICT {clause}": (f"CREATE TABLE clients (k TEXT, u TEXT UNIQUE ON CONFLICT {clause})",)
        for clause in ("IGNORE", "REPLACE", "FAIL", "ROLLBACK")
    },
    "a unique index": ("CREATE TABLE clients (k TEXT, u TEXT)", "CREATE UNIQUE INDEX single ON clients (u)"),
    "a unique index on some rows": (
        "CREATE TABLE clients (k TEXT, u TEXT)",
        "CREATE UNIQUE INDEX single ON clients (u) WHERE u <> ''",
    ),
}
CHANGES = {
    "freed, and given to a new row": ("UPDATE clients SET u = 'other' WHERE rowid = 5",),
    "its row deleted": ("DELETE FROM clients WHERE rowid = 5",),
    "moved on from row to row": (
        "UPDATE clients SET u = 'aside' WHERE rowid = 450",
        "UPDATE clients SET u = 'u450' WHERE rowid = 5",
    ),
}
FREED = CHANGES["freed, and given to a new row"]
CASES = {name: (ddl, FREED) for name, ddl in TABLES.items()} | {
    name: (TABLES["UNIQUE"], changes) for name, changes in CHANGES.items()
}
SWAP = (
    "UPDATE clients SET u = 'aside' WHERE rowid = 5",
    "UPDATE clients SET u = 'u5' WHERE rowid = 450",
    "UPDATE clients SET u = 'u450' WHERE rowid = 5",
)


def append(workplace: Workplace, rows: int) -> None:
    workplace.script(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) INSERT INTO clients (k, u) "
        "SELECT '7' || (i + ifnull(m, 0)), 'u' || (i + ifnull(m, 0)) FROM n, (SELECT max(rowid) AS m FROM clients)"
    )


@pytest.fixture
def environ(workplace: Workplace) -> dict[str, str]:
    """One hash shard, so that every conflict of the source's is one of the shard's."""
    return workplace.environ(NUM_SHARDS=1, RESERVED_SHARD=1)


@pytest.mark.parametrize("new_rows", [10, 200], ids=["indexes kept up", "indexes built at the end"])
@pytest.mark.parametrize(("ddl", "changes"), CASES.values(), ids=CASES.keys())
def test_a_run_replaces_the_row_that_has_a_new_rows_unique_value(
    *,
    workplace: Workplace,
    environ: dict[str, str],
    capfd: pytest.CaptureFixture[str],
    ddl: tuple[str, ...],
    changes: tuple[str, ...],
    new_rows: int,
) -> None:
    workplace.script(*ddl)
    append(workplace, ROWS)
    assert migrate(environ) == 0
    append(workplace, new_rows)
    workplace.script(*changes, f"UPDATE clients SET u = 'u5' WHERE rowid = {ROWS + 2}")
    capfd.readouterr()
    assert migrate(environ) == 0
    said = [line.split()[1] for line in capfd.readouterr().err.splitlines()]
    assert "Traceback" not in said
    assert max(map(said.count, said)) == 1, "each attempt begins with the same"
    assert run(environ, scope=Scope(quick=True), repair=True) == 0  # old rows that are in no new one's way
    assert differences(environ) == []


def test_a_repair_of_the_later_windows_alone_replaces_what_is_in_their_way(
    workplace: Workplace, environ: dict[str, str]
) -> None:
    workplace.script("CREATE TABLE clients (k TEXT, u TEXT UNIQUE ON CONFLICT REPLACE)")
    append(workplace, ROWS)
    assert migrate(environ) == 0
    workplace.script(*SWAP)
    assert run(environ, scope=Scope(since=401), repair=True) == 0
    assert faults_of(environ) == []


def test_a_row_of_an_applications_own_in_the_way_stops_the_run_until_a_repair(
    workplace: Workplace, environ: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.script("CREATE TABLE clients (k TEXT, u TEXT, id INTEGER PRIMARY KEY ON CONFLICT REPLACE)")
    append(workplace, ROWS)
    assert migrate(environ) == 0
    with closing(sqlite3.connect(shard_files(environ)[0])) as shard, shard:
        shard.execute(f"INSERT INTO clients (id, u) VALUES ({ROWS + 1}, 'of the application')")
    append(workplace, 10)
    assert migrate(environ) == 1
    assert "python -m etl.verify --repair" in error_line(capfd.readouterr().err)
    with closing(opened(shard_files(environ)[0])) as shard:
        assert shard.execute("SELECT u FROM clients ORDER BY id DESC LIMIT 1").fetchone() == (b"of the application",)
    assert run(environ, scope=Scope(quick=True), repair=True) == 0
    assert migrate(environ) == 0
    assert faults_of(environ) == []


@pytest.mark.parametrize("clause", ["IGNORE", "REPLACE"])
def test_a_null_where_none_may_be_is_neither_replaced_nor_left_out(
    workplace: Workplace, environ: dict[str, str], clause: str
) -> None:
    workplace.script("CREATE TABLE clients (k TEXT, u TEXT DEFAULT 'x')")
    append(workplace, ROWS)
    workplace.script(
        "UPDATE clients SET u = NULL WHERE rowid = 7",
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_schema SET sql = 'CREATE TABLE clients (k TEXT, u TEXT NOT NULL ON CONFLICT {clause} "
        "DEFAULT ''x'')'",
    )
    assert migrate(environ) != 0 or differences(environ) == []


def test_rows_that_a_shard_does_not_take_are_missed_before_the_commit(
    workplace: Workplace, environ: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.script("CREATE TABLE clients (k TEXT, u TEXT UNIQUE)")
    append(workplace, ROWS)
    assert migrate(environ) == 0
    append(workplace, 10)
    workplace.script(*CHANGES["its row deleted"], f"UPDATE clients SET u = 'u5' WHERE rowid = {ROWS + 2}")
    insert = sql.insert
    monkeypatch.setattr(sql, "insert", lambda *of: "INSERT OR IGNORE INTO " + insert(*of).partition(" INTO ")[2])
    (path,) = shard_files(environ)[:1]
    before = contents(path)
    capfd.readouterr()
    assert migrate(environ) == 1
    assert f"{path}: expected 10 rows to be inserted, found 9" in error_line(capfd.readouterr().err)
    assert contents(path) == before


def contents(path: Path) -> list[list[tuple[object, ...]]]:
    with closing(opened(path)) as shard:
        return [shard.execute(f"SELECT * FROM {table}").fetchall() for table in ("clients", "_etl_windows")]
