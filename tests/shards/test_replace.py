"""Rows replaced by what the source has: whatever moved between rows, windows and shards, UNIQUE values included."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.migrate.command import run as load
from etl.sqlite.adbc import Connection
from etl.verify.command import run
from etl.verify.scope import Scope
from tests.oracle import expected_shard
from tests.verifier import Verifier
from tests.workplace import Workplace, differences, error_line, migrate, shard_files

ROWS = 60
UNIQUE = {
    "a constraint": ("u TEXT UNIQUE", ""),
    "a constraint that replaces": ("u TEXT UNIQUE ON CONFLICT REPLACE", ""),
    "an index of two columns": ("u TEXT", "CREATE UNIQUE INDEX x ON clients (u, n)"),
    "an index on an expression": ("u TEXT", "CREATE UNIQUE INDEX x ON clients (lower(u))"),
    "a partial index": ("u TEXT", "CREATE UNIQUE INDEX x ON clients (u) WHERE rowid > 5"),
}


def migrated(place: Workplace, column: str, index: str, *, shards: int) -> dict[str, str]:
    place.script(
        f"CREATE TABLE clients (k TEXT, {column}, n INTEGER NOT NULL DEFAULT 3)",
        *([index] if index else []),
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < "
        f"{ROWS}) INSERT INTO clients SELECT 'key ' || i, 'u' || i, 0 FROM r",
    )
    environ = place.environ(NUM_SHARDS=shards, RESERVED_SHARD=shards, BATCH_SIZE=5, READERS=2)
    assert migrate(environ) == 0
    return environ


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("column", "index"), UNIQUE.values(), ids=UNIQUE.keys())
def test_values_that_rows_have_exchanged(
    workplace: Workplace,
    verify: Verifier,
    monkeypatch: pytest.MonkeyPatch,
    *,
    column: str,
    index: str,
    shards: int,
) -> None:
    monkeypatch.setattr("etl.verify.blocks.BLOCK_BYTES", 1)  # each window is a block of its own
    environ = migrated(workplace, column, index, shards=shards)
    workplace.script(
        "UPDATE clients SET u = 'aside' WHERE rowid = 7",  # 7 and 50 exchange
        "UPDATE clients SET u = 'u7' WHERE rowid = 50",
        "UPDATE clients SET u = 'u50' WHERE rowid = 7",
        "DELETE FROM clients WHERE rowid = 20",  # 33 gets what a deleted row had
        "UPDATE clients SET u = 'u20' WHERE rowid = 33",
        "UPDATE clients SET k = 'another ' || rowid, u = 'moved ' || u WHERE rowid IN (8, 51)",  # to another shard
        "UPDATE clients SET u = 'u8' WHERE rowid = 9",
    )
    assert verify(environ, Scope(quick=True), repair=True, force=True)["exit_code"] == 0
    assert differences(environ) == []


def test_a_row_that_is_the_same_is_not_written(
    workplace: Workplace, verify: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = migrated(workplace, "u TEXT", "", shards=2)
    workplace.script("UPDATE clients SET u = 'new' WHERE rowid = 7")
    written: list[int] = []
    real = Connection.close

    def counted(self: Connection) -> None:
        written.append(self.changes())
        real(self)

    monkeypatch.setattr(Connection, "close", counted)
    assert verify(environ, Scope(quick=True), repair=True)["exit_code"] == 0
    monkeypatch.undo()
    # one row out and in, its ledger line twice, and the chosen rowid as often as it is filled in
    assert sum(written) < ROWS // 2
    assert differences(environ) == []


def test_rows_that_an_application_wrote_stay_beside_those_that_are_replaced(
    workplace: Workplace, verify: Verifier
) -> None:
    environ = migrated(workplace, "u TEXT", "", shards=2)
    workplace.script("DELETE FROM clients WHERE rowid = 25", "UPDATE clients SET u = 'new' WHERE rowid = 24")
    verify(environ, Scope(quick=True), repair=True)  # rowid 25 is free now, on both sides
    path = shard_files(environ)[0]
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO clients (rowid, k, u) VALUES (25, 'of the application', 'x'), (900, 'too', 'y')")
    workplace.script("UPDATE clients SET u = 'newer' WHERE rowid BETWEEN 21 AND 29")
    for _ in range(2):
        said = verify(environ, Scope(quick=True), repair=True)
        assert (said["exit_code"], said["differences"], said["foreign_rows"]) == (4, {"extra": 2, "ledger": 1}, 2)
    assert verify(environ, Scope(quick=True), repair=True, delete_foreign=True)["exit_code"] == 0
    assert differences(environ) == []


def keyed(shard: int) -> str:
    """A key of that shard, of two."""
    return next(
        key for i in range(99) if expected_shard((key := f"x{i}").encode(), num_shards=2, reserved_shard=2) == shard
    )


def in_some_shard(environ: dict[str, str]) -> set[int]:
    found: set[int] = set()
    for path in shard_files(environ):
        with closing(sqlite3.connect(path)) as database:
            found |= {rowid for (rowid,) in database.execute("SELECT rowid FROM clients")}
    return found


@pytest.mark.parametrize(
    "scope", [Scope(since=31), Scope(shards=frozenset({0})), Scope(shards=frozenset({1}))], ids=["late", "one", "other"]
)
def test_a_repair_of_a_part_leaves_no_row_out(workplace: Workplace, verify: Verifier, scope: Scope) -> None:
    environ = migrated(workplace, "u TEXT UNIQUE", "", shards=2)
    workplace.script(
        f"UPDATE clients SET k = '{keyed(0)}' WHERE rowid IN (5, 50)",
        f"UPDATE clients SET k = '{keyed(1)}' WHERE rowid IN (6, 51)",
    )
    assert verify(environ, Scope(quick=True), repair=True)["exit_code"] == 0
    workplace.script(
        f"UPDATE clients SET k = '{keyed(1)}', u = 'given up' WHERE rowid = 5",
        "UPDATE clients SET u = 'u5' WHERE rowid = 50",
        f"UPDATE clients SET k = '{keyed(0)}' WHERE rowid = 51",
    )
    verify(environ, scope, repair=True)
    assert in_some_shard(environ) == set(range(1, ROWS + 1))
    assert verify(environ, Scope(quick=True), repair=True)["exit_code"] == 0
    assert differences(environ) == []


def test_a_source_that_breaks_its_own_unique_ends_the_run(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = migrated(workplace, "u TEXT UNIQUE", "", shards=1)
    workplace.script(
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, ' UNIQUE', '       ') WHERE name = 'clients'",
        "DELETE FROM sqlite_schema WHERE name LIKE 'sqlite_autoindex%'",
    )
    workplace.script(
        "INSERT INTO clients (k, u) VALUES ('new', 'u5')",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, 'u TEXT       ', 'u TEXT UNIQUE') WHERE name = 'clients'",
    )
    capsys.readouterr()
    assert load(environ) in (1, 2)
    assert error_line(capsys.readouterr().err)


def test_a_shard_that_a_program_holds_is_not_called_damaged(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("etl.sqlite.adbc.BUSY_TIMEOUT_MS", 100)
    environ = migrated(workplace, "u TEXT", "", shards=2)
    hold = (
        "import sqlite3, sys\nd = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "d.execute('PRAGMA locking_mode = EXCLUSIVE')\nd.execute('BEGIN EXCLUSIVE')\nprint('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", hold, str(shard_files(environ)[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        capsys.readouterr()
        assert run(environ) == 1
        assert "close the program that holds it and run again" in error_line(capsys.readouterr().err)
        holder.communicate()
    assert run(environ) == 0


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["delete", "update", "key", "swap", "insert"]), st.integers(1, ROWS + 5), st.integers(1, ROWS)
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(changes=CHANGES, shards=st.integers(1, 4), unique=st.sampled_from(sorted(UNIQUE)))
def test_any_changes_of_the_source_are_followed(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int]], shards: int, unique: str
) -> None:
    place = Workplace(tmp_path_factory.mktemp("changes"))
    environ = migrated(place, *UNIQUE[unique], shards=shards)
    with closing(sqlite3.connect(place.source)) as database, database:
        for kind, a, b in changes:
            match kind:
                case "delete":
                    database.execute("DELETE FROM clients WHERE rowid = ?", (a,))
                case "update":
                    database.execute("UPDATE OR REPLACE clients SET u = ? WHERE rowid = ?", (f"u{b}", a))
                case "key":
                    database.execute("UPDATE clients SET k = k || '!' WHERE rowid IN (?, ?)", (a, b))
                case "insert":
                    database.execute("INSERT OR REPLACE INTO clients (rowid, k, u) VALUES (?, 'new', ?)", (a, f"u{b}"))
                case "swap":
                    values = dict(database.execute("SELECT rowid, u FROM clients WHERE rowid IN (?, ?)", (a, b)))
                    if len(values) == 2:
                        database.execute("UPDATE OR REPLACE clients SET u = 'aside' WHERE rowid = ?", (a,))
                        database.execute("UPDATE OR REPLACE clients SET u = ? WHERE rowid = ?", (values[a], b))
                        database.execute("UPDATE OR REPLACE clients SET u = ? WHERE rowid = ?", (values[b], a))
    assert run(environ, scope=Scope(quick=True), repair=True, force=True) == 0
    assert load(environ, force=True) == 0
    assert run(environ, scope=Scope(quick=True), repair=True, force=True) == 0
    assert differences(environ) == []
