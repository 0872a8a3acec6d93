"""sqlite_sequence, by which AUTOINCREMENT never gives a rowid twice: verify holds it against each shard's rows."""

import sqlite3
from contextlib import closing

import pytest

from etl.verify.scope import Scope
from tests.completeness import faults_of
from tests.damage import every
from tests.oracle import opened
from tests.verifier import Verifier
from tests.workplace import Workplace, migrate, shard_files

ROWS = 500
DAMAGES = {
    "lowered": "UPDATE sqlite_sequence SET seq = seq - 1",
    "lost": "DELETE FROM sqlite_sequence",
    "of another table": "UPDATE sqlite_sequence SET name = 'CLIENTS'",
    "a text": "UPDATE sqlite_sequence SET seq = 'x'",
}


@pytest.fixture
def environ(workplace: Workplace) -> dict[str, str]:
    workplace.script(
        "CREATE TABLE clients (id INTEGER PRIMARY KEY AUTOINCREMENT, k TEXT, note TEXT)",
        f"WITH RECURSIVE n(i) AS (SELECT -3 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) "
        "INSERT INTO clients SELECT i, '7' || i, 'x' FROM n",
    )
    environ = workplace.environ()
    assert migrate(environ) == 0
    return environ


@pytest.mark.parametrize("also", [(), ("UPDATE clients SET note = 'y' WHERE id = 5",)], ids=["alone", "beside a row"])
@pytest.mark.parametrize("statement", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_sequence_below_the_rows_is_named_and_mended(
    environ: dict[str, str], verify: Verifier, statement: str, also: tuple[str, ...]
) -> None:
    assert verify(environ, Scope(quick=True))["exit_code"] == 0
    every(statement, *also)(environ)
    said = verify(environ, Scope(quick=True), repair=True)
    shards_with_rows = 3  # no row lacks a key
    assert said["repair"]["found"]["schema"] == shards_with_rows
    assert all("sqlite_sequence" in note["text"] for note in said["repair"]["notes"])
    assert said["exit_code"] == 0
    assert faults_of(environ) == []
    for path in shard_files(environ)[:shards_with_rows]:
        with closing(sqlite3.connect(path)) as shard, shard:
            (last,) = shard.execute("SELECT max(id) FROM clients").fetchone()
            assert shard.execute("DELETE FROM clients WHERE id = ?", (last,)).rowcount == 1
            assert shard.execute("INSERT INTO clients (k) VALUES ('new')").lastrowid == last + 1


def test_a_sequence_above_the_rows_is_no_difference_and_no_repair_lowers_it(
    environ: dict[str, str], verify: Verifier
) -> None:
    every("UPDATE sqlite_sequence SET seq = 9000", "UPDATE clients SET note = 'y'")(environ)
    assert verify(environ, Scope(quick=True), repair=True)["repair"]["found"] == {"changed": ROWS + 4}
    for path in shard_files(environ)[:3]:
        with closing(opened(path)) as shard:
            assert shard.execute("SELECT seq FROM sqlite_sequence").fetchall() == [(9000,)]


def test_a_table_without_one_needs_no_sequence_beside_one_that_has_it(
    migrated: dict[str, str], verify: Verifier
) -> None:
    every("CREATE TABLE theirs (id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO theirs VALUES (1)")(migrated)
    assert verify(migrated, Scope(quick=True))["differences"] == {}
