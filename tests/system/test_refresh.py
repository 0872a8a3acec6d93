"""A refresh: whatever an application did to old rows of the source, the shards have it afterwards, and nothing else."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from etl.migrate.command import run
from etl.migrate.refresh import Refresh
from etl.verify import command as verify
from etl.verify.scope import Scope
from tests.damage import ROWS, Environ
from tests.workplace import REPOSITORY, Workplace, differences, error_line, shard_files


def refreshed(environ: Environ, *, allow_deletes: int | None = None, delete_foreign: bool = False) -> int:
    return run(environ, refresh=Refresh(allow_deletes, delete_foreign))


def test_old_rows_are_followed_and_new_ones_loaded(workplace: Workplace, migrated: dict[str, str]) -> None:
    workplace.script(
        "UPDATE clients SET note = 'new' WHERE rowid % 3 = 0",  # more than a tenth
        "UPDATE clients SET k = 'elsewhere' || rowid WHERE rowid BETWEEN 300 AND 305",
        "DELETE FROM clients WHERE rowid BETWEEN 600 AND 700",
        "INSERT INTO clients (rowid, k) VALUES (650, 'in a gap')",
        "DELETE FROM clients WHERE rowid = 6",
        "INSERT INTO clients (rowid, k) VALUES (6, 'another')",
    )
    workplace.populate(100, first=ROWS + 1, seed=2)
    assert refreshed(migrated) == 0
    assert differences(migrated) == []


def test_only_rows_that_differ_are_written(workplace: Workplace, migrated: dict[str, str]) -> None:
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid = 7")
    before = {path: path.read_bytes() for path in shard_files(migrated)}
    assert refreshed(migrated) == 0
    assert len([path for path, content in before.items() if path.read_bytes() != content]) == 1
    assert differences(migrated) == []


def test_many_deletes_stop_it_before_anything_is_deleted(
    workplace: Workplace, migrated: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.script("DELETE FROM clients WHERE rowid <= 201")
    before = {path: path.read_bytes() for path in shard_files(migrated)}
    capsys.readouterr()
    assert refreshed(migrated) == 2
    message = error_line(capsys.readouterr().err)
    assert (
        "expected at most 200 of the shards' 2,000 rows to be gone from it, found 201; these were not deleted"
        in message
    )
    assert "--refresh --allow-deletes 201" in message
    assert refreshed(migrated, allow_deletes=200) == 2
    assert {path: path.read_bytes() for path in shard_files(migrated)} == before
    assert refreshed(migrated, allow_deletes=201) == 0
    assert differences(migrated) == []
    workplace.script("DELETE FROM clients WHERE rowid <= 1400")
    assert refreshed(migrated | {"MAX_DELETE_PERCENT": "80"}) == 0
    assert differences(migrated) == []


UNCHANGED = "nothing to refresh: source and shards have not changed since "


def test_an_unchanged_source_is_not_compared_again(
    workplace: Workplace, migrated: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    def is_compared() -> bool:
        capsys.readouterr()
        assert refreshed(migrated) == 0
        return UNCHANGED not in capsys.readouterr().out

    workplace.script("UPDATE clients SET note = 'new' WHERE rowid = 7")
    assert [is_compared(), is_compared(), is_compared()] == [True, False, False]
    workplace.script("UPDATE clients SET note = 'now' WHERE rowid = 7")  # the size stays
    assert [is_compared(), is_compared()] == [True, False]
    workplace.populate(10, first=ROWS + 1, seed=2)
    assert [is_compared(), is_compared()] == [True, False]
    with closing(sqlite3.connect(shard_files(migrated)[0])) as database, database:
        database.execute("UPDATE clients SET note = 'other' WHERE rowid = (SELECT min(rowid) FROM clients)")
    assert [is_compared(), is_compared()] == [True, False]
    before = workplace.source.stat()
    os.utime(workplace.source, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # as a restored file
    assert [is_compared(), is_compared()] == [True, False]
    workplace.script("PRAGMA journal_mode = WAL")
    assert [is_compared(), is_compared()] == [True, True]  # the counter stands still in WAL mode
    assert differences(migrated) == []


def test_a_proof_of_a_part_spares_no_refresh(
    workplace: Workplace, migrated: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid = 1900")
    assert verify.run(migrated, scope=Scope(percent=1.0)) in {0, 4}
    assert verify.run(migrated, scope=Scope(shards=frozenset({0}))) in {0, 4}
    assert refreshed(migrated) == 0
    assert UNCHANGED not in capsys.readouterr().out
    assert differences(migrated) == []


def test_rows_of_an_application_stay(workplace: Workplace, migrated: dict[str, str]) -> None:
    workplace.script("DELETE FROM clients WHERE rowid = 55")
    assert refreshed(migrated) == 0
    with closing(sqlite3.connect(shard_files(migrated)[0])) as database, database:
        database.execute("INSERT INTO clients (rowid, k) VALUES (55, 'of the application'), (90000, 'too')")
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid BETWEEN 50 AND 60")
    assert refreshed(migrated) == 4
    with closing(sqlite3.connect(shard_files(migrated)[0])) as database:
        assert database.execute("SELECT count(*) FROM clients WHERE rowid IN (55, 90000)").fetchone() == (2,)
    assert refreshed(migrated, delete_foreign=True) == 0
    assert differences(migrated) == []


def test_the_command_is_silent_on_success_without_a_terminal(workplace: Workplace, migrated: dict[str, str]) -> None:
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid = 7")
    command = [sys.executable, "-m", "etl.migrate", "--refresh"]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **migrated}
    ended = subprocess.run(command, cwd=workplace.root, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert differences(migrated) == []
    ended = subprocess.run([*command, "-v"], cwd=workplace.root, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert "equal: 2,000 rows" in ended.stdout


@pytest.mark.parametrize("after", range(1, 40, 5))
def test_a_refresh_that_was_killed_is_completed_by_the_next(
    workplace: Workplace, migrated: dict[str, str], after: int
) -> None:
    """A process of its own, killed after its Nth commit."""
    workplace.script(
        "UPDATE clients SET k = 'moved' || rowid WHERE rowid % 10 = 0", "DELETE FROM clients WHERE rowid % 50 = 1"
    )
    started = f"import os, signal\nfrom etl.sqlite.adbc import Connection\nreal, left = Connection.execute, [{after}]\n"
    strike = (
        "def execute(self, statement):\n    found = real(self, statement)\n"
        "    if statement == 'COMMIT':\n        left[0] -= 1\n"
        "        if not left[0]:\n            os.kill(os.getpid(), signal.SIGKILL)\n    return found\n"
        "Connection.execute = execute\n"
        "from etl.migrate.command import Refresh, run\nraise SystemExit(run(os.environ, refresh=Refresh()))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **migrated}
    ended = subprocess.run(
        [sys.executable, "-c", started + strike], cwd=workplace.root, env=env, capture_output=True, check=False
    )
    assert ended.returncode in (-signal.SIGKILL, 0)
    assert refreshed(migrated) == 0
    assert differences(migrated) == []


class Years(RuleBasedStateMachine):
    """An application's changes, runs and refreshes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._place = Workplace(Path(self._directory.name))
        self._migrated: dict[str, str] = {}
        self._is_fresh = False

    @initialize(shards=st.integers(1, 4), rows=st.integers(0, 30), wal=st.booleans())
    def begin(self, shards: int, rows: int, *, wal: bool) -> None:
        self._place.script(
            f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}",
            "CREATE TABLE clients (id INTEGER PRIMARY KEY AUTOINCREMENT, k TEXT, u TEXT UNIQUE, n)",
            f"WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {rows}) "
            "INSERT INTO clients (k, u) SELECT 'key ' || i, 'u' || i FROM r",
        )
        self._environ = self._place.environ(
            NUM_SHARDS=shards, RESERVED_SHARD=shards, BATCH_SIZE=3, READERS=2, MAX_DELETE_PERCENT=100
        )

    def _change(self, statement: str, *values: object) -> None:
        self._is_fresh = False
        with closing(sqlite3.connect(self._place.source)) as database, database:
            database.execute(statement, values)

    @rule(rows=st.integers(1, 8), u=st.one_of(st.none(), st.integers(1, 40)))
    def insert(self, rows: int, u: int | None) -> None:
        for _ in range(rows):
            self._change("INSERT OR REPLACE INTO clients (k, u) VALUES ('new', ?)", u and f"u{u}")

    @rule(
        row=st.integers(1, 40), cell=st.one_of(st.none(), st.integers(-9, 9), st.floats(allow_nan=False), st.binary())
    )
    def update(self, row: int, cell: object) -> None:
        self._change("UPDATE clients SET n = ? WHERE id = ?", cell, row)

    @rule(row=st.integers(1, 40))
    def change_the_key(self, row: int) -> None:
        self._change("UPDATE clients SET k = k || '!' WHERE id = ?", row)

    @rule(a=st.integers(1, 40), b=st.integers(1, 40))
    def give_a_unique_value_to_another_row(self, a: int, b: int) -> None:
        self._change(
            "UPDATE OR REPLACE clients SET u = (SELECT c.u FROM clients AS c WHERE c.id = ?) WHERE id = ?", a, b
        )

    @rule(row=st.integers(1, 40))
    def delete(self, row: int) -> None:
        self._change("DELETE FROM clients WHERE id = ?", row)

    @rule(row=st.integers(1, 40))
    def fill_a_gap(self, row: int) -> None:
        self._change("INSERT OR IGNORE INTO clients (id, k) VALUES (?, 'in a gap')", row)

    @rule()
    def vacuum(self) -> None:
        with closing(sqlite3.connect(self._place.source)) as database:
            database.execute("VACUUM")

    @rule()
    def load(self) -> None:
        assert run(self._environ, force=True) == 0

    @precondition(lambda self: not self._is_fresh)
    @rule()
    def refresh(self) -> None:
        assert run(self._environ, force=True, refresh=Refresh()) == 0
        self._is_fresh = True

    @invariant()
    def after_a_refresh_both_are_equal(self) -> None:
        if self._is_fresh:
            assert differences(self._environ) == []

    def teardown(self) -> None:
        self._directory.cleanup()


Years.TestCase.settings = settings(max_examples=15, stateful_step_count=20)
TestYears = Years.TestCase
