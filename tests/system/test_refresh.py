"""A refresh: whatever an application did to old rows of the source, the shards have it afterwards, and nothing else."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from etl.core.model import RowidRange
from etl.cutover import command as cutover
from etl.migrate.command import run
from etl.migrate.refresh import Refresh
from etl.runtime.options import Given
from etl.sqlite.adbc import Connection
from etl.verify import command as verify
from etl.verify.checker import Checker
from etl.verify.repair import Repair
from etl.verify.scope import Scope
from etl.verify.verification import Verification
from tests.damage import ROWS, Environ
from tests.oracle import expected_shard, opened
from tests.workplace import REPOSITORY, Workplace, differences, error_line, shard_files

ROW = st.integers(1, 40)
CURSOR = {"CURSOR_COLUMN": "at"}


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

    def is_compared_until_nothing_was_written() -> bool:
        return [is_compared(), is_compared(), is_compared()] == [True, True, False]

    assert [is_compared(), is_compared()] == [True, False]
    workplace.script("UPDATE clients SET note = 'now' WHERE rowid = 7")  # the size stays
    assert is_compared_until_nothing_was_written()
    workplace.populate(10, first=ROWS + 1, seed=2)
    assert [is_compared(), is_compared()] == [True, False]
    shard = shard_files(migrated)[0]
    shutil.copy2(shard, workplace.root / "backup.db")
    with closing(sqlite3.connect(shard)) as database, database:
        database.execute("UPDATE clients SET note = 'other' WHERE rowid = (SELECT min(rowid) FROM clients)")
    assert is_compared_until_nothing_was_written()
    shutil.copy2(workplace.root / "backup.db", shard)  # with its time, as `cp -p` restores it
    assert [is_compared(), is_compared()] == [True, False]
    before = workplace.source.stat()
    os.utime(workplace.source, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # as a restored file
    assert [is_compared(), is_compared()] == [True, False]
    workplace.script("PRAGMA journal_mode = WAL")
    assert [is_compared(), is_compared()] == [True, True]  # the counter stands still in WAL mode
    assert differences(migrated) == []


def test_a_shard_that_is_edited_while_it_is_compared_is_compared_again(
    migrated: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Verification.run

    def run_and_edit(self: Verification) -> object:
        found = real(self)
        with closing(sqlite3.connect(shard_files(migrated)[0])) as database, database:
            database.execute("UPDATE clients SET note = 'edited'")
        return found

    monkeypatch.setattr(Verification, "run", run_and_edit)
    assert refreshed(migrated) == 0
    monkeypatch.undo()
    assert refreshed(migrated) == 0
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


def test_rows_that_change_again_meanwhile_are_left_to_the_next(
    workplace: Workplace, migrated: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid = 7")
    real = Repair.run

    def and_again(repair: Repair, checker: Checker) -> frozenset[RowidRange]:
        windows = real(repair, checker)
        workplace.script("UPDATE clients SET note = 'newer' WHERE rowid = 7")
        return windows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repair, "run", and_again)
        assert refreshed(migrated) == 0
    said = capsys.readouterr().out
    assert "changing: " in said
    assert "a program wrote to the source meanwhile; the next refresh brings these rows" in said
    assert cutover.check(Given(migrated, Path("none"))) == 2
    assert refreshed(migrated) == 0
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
    workplace.script("UPDATE clients SET note = 'newer' WHERE rowid = 7")
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


class Struck(BaseException):
    """What a run ends with after its Nth commit: nothing after it is written, as after a kill."""


def struck(environ: Environ, after: int, *, refresh: bool) -> None:
    """A run, in this process, that writes nothing after so many commits."""
    real, left = Connection.execute, [after]

    def execute(self: Connection, statement: str) -> list[tuple[Any, ...]]:
        if left[0] <= 0 and statement != "ROLLBACK":
            raise Struck
        found = real(self, statement)
        left[0] -= statement == "COMMIT"
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "execute", execute)
        assert run(environ, force=True, evolve=True, refresh=Refresh() if refresh else None) in (0, 1)


def test_a_refresh_that_ends_after_any_commit_is_completed_by_the_next(workplace: Workplace) -> None:
    workplace.populate(400)
    environ = workplace.environ()
    assert run(environ) == 0
    for after in range(12):
        workplace.script(
            f"UPDATE clients SET k = 'moved {after} ' || rowid WHERE rowid % 100 = {after}",
            f"DELETE FROM clients WHERE rowid % 200 = {50 + after}",
        )
        struck(environ, after, refresh=True)
        assert refreshed(environ) == 0
        assert differences(environ) == []


def not_followed(environ: Environ) -> list[int]:
    """The rowids of source rows that are not the same in their own shard, or that another shard has, too."""
    query = "SELECT id, k, u, n, at, typeof(n) FROM clients"
    rows: dict[int, list[tuple[int, object]]] = {}
    for number, path in enumerate(shard_files(environ)):
        with closing(opened(path)) as database:
            for row in database.execute(query):
                rows.setdefault(row[0], []).append((number, row))
    shards = int(environ["NUM_SHARDS"])
    with closing(opened(Path(environ["SOURCE_DB"]))) as source:
        return [
            row[0]
            for row in source.execute(query)
            if rows.get(row[0]) != [(expected_shard(row[1], num_shards=shards, reserved_shard=shards), row)]
        ]


SLOW_INSERT = """
import os, signal, sys, threading, time
from etl.shards import unique
real = unique.insert
def insert(connection, *arguments, **options):
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    rows = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 3000000)"
    connection.execute(f"{rows} SELECT max(i) FROM r")
    unique.insert = real
    return real(connection, *arguments, **options)
unique.insert = insert
from etl.migrate.command import Refresh, run as refresh
from etl.verify.command import run as verify
is_refresh = sys.argv[1] == "refresh"
raise SystemExit(refresh(os.environ, refresh=Refresh()) if is_refresh else verify(os.environ, repair=True))
"""


@pytest.mark.parametrize("command", ["refresh", "repair"])
def test_ctrl_c_lets_the_statement_end(workplace: Workplace, migrated: dict[str, str], command: str) -> None:
    """ADBC would cancel a statement of the main thread."""
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid % 20 = 0")
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **migrated}
    ended = subprocess.run(
        [sys.executable, "-c", SLOW_INSERT, command], cwd=workplace.root, env=env, capture_output=True, check=False
    )
    assert (ended.returncode, b"error" in ended.stderr) == (128 + signal.SIGINT, False)
    assert refreshed(migrated) == 0
    assert differences(migrated) == []


class Years(RuleBasedStateMachine):
    """An application's changes, runs and refreshes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._place = Workplace(Path(self._directory.name))
        self._is_fresh = False
        self._is_followed = False
        """Whether the last thing done was a run with a cursor: then all but deleted rows are as in the source."""
        self._now = 0
        self._new_columns = 0

    @initialize(shards=st.integers(1, 4), rows=st.integers(0, 30), wal=st.booleans(), indexed=st.booleans())
    def begin(self, shards: int, rows: int, *, wal: bool, indexed: bool) -> None:
        self._place.script(
            f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}",
            "CREATE TABLE clients (id INTEGER PRIMARY KEY AUTOINCREMENT, k TEXT, u TEXT UNIQUE, n, at INTEGER)",
            *(["CREATE INDEX by_time ON clients (at)"] if indexed else []),
            f"WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {rows}) "
            "INSERT INTO clients (k, u, at) SELECT 'key ' || i, 'u' || i, 0 FROM r",
        )
        self._environ = self._place.environ(
            NUM_SHARDS=shards, RESERVED_SHARD=shards, BATCH_SIZE=3, READERS=2, MAX_DELETE_PERCENT=100
        )

    def _change(self, *statements: str, **values: object) -> None:
        self._is_fresh = self._is_followed = False
        with closing(sqlite3.connect(self._place.source)) as database, database:
            for statement in statements:
                database.execute(statement, {"now": self._now} | values)

    @rule()
    def time_passes(self) -> None:
        self._now += 1

    @rule(rows=st.integers(1, 8), u=st.one_of(st.none(), st.integers(1, 40)))
    def insert(self, rows: int, u: int | None) -> None:
        for _ in range(rows):
            self._change("INSERT OR REPLACE INTO clients (k, u, at) VALUES ('new', :u, :now)", u=u and f"u{u}")

    @rule(row=ROW, cell=st.one_of(st.none(), st.integers(-9, 9), st.floats(allow_nan=False), st.binary()))
    def update(self, row: int, cell: object) -> None:
        self._change("UPDATE clients SET n = :cell, at = :now WHERE id = :row", cell=cell, row=row)

    @rule(row=ROW)
    def change_the_key(self, row: int) -> None:
        self._change("UPDATE clients SET k = k || '!', at = :now WHERE id = :row", row=row)

    @rule(a=ROW, b=ROW)
    def give_a_unique_value_to_another_row(self, a: int, b: int) -> None:
        u = "(SELECT c.u FROM clients AS c WHERE c.id = :a)"
        self._change(f"UPDATE OR REPLACE clients SET u = {u}, at = :now WHERE id = :b", a=a, b=b)

    @rule(a=ROW, b=ROW)
    def swap_unique_values(self, a: int, b: int) -> None:
        self._change(
            "CREATE TEMP TABLE swapped AS SELECT c.id, c.u FROM clients AS c WHERE c.id IN (:a, :b)",
            "DELETE FROM swapped WHERE (SELECT count(*) FROM swapped) < 2",
            "UPDATE clients SET u = NULL, at = :now WHERE id IN (SELECT s.id FROM swapped AS s)",
            "UPDATE clients SET u = (SELECT s.u FROM swapped AS s WHERE s.id <> clients.id) "
            "WHERE id IN (SELECT s.id FROM swapped AS s)",
            a=a,
            b=b,
        )

    @rule(row=ROW)
    def delete(self, row: int) -> None:
        self._change("DELETE FROM clients WHERE id = :row", row=row)

    @rule(key=st.sampled_from(["key 1", "another", None]))
    def delete_and_reuse_the_greatest_rowid(self, key: str | None) -> None:
        self._change(
            "CREATE TEMP TABLE last AS SELECT max(c.id) AS id FROM clients AS c",
            "DELETE FROM clients WHERE id = (SELECT l.id FROM last AS l)",
            "INSERT INTO clients (id, k, at) SELECT l.id, :key, :now FROM last AS l WHERE l.id IS NOT NULL",
            key=key,
        )

    @rule(row=ROW)
    def fill_a_gap(self, row: int) -> None:
        self._change("INSERT OR IGNORE INTO clients (id, k, at) VALUES (:row, 'in a gap', :now)", row=row)

    @precondition(lambda self: self._new_columns < 3)
    @rule(default=st.sampled_from(["", " DEFAULT 7"]))
    def add_a_column(self, default: str) -> None:
        self._new_columns += 1
        name = f"c{self._new_columns}"
        self._change(
            f"ALTER TABLE clients ADD COLUMN {name} INTEGER{default}", f"UPDATE clients SET {name} = id WHERE id % 2"
        )

    @rule()
    def vacuum(self) -> None:
        with closing(sqlite3.connect(self._place.source)) as database:
            database.execute("VACUUM")

    @rule()
    def load(self) -> None:
        assert run(self._environ, force=True, evolve=True) == 0

    @rule()
    def follow_the_cursor(self) -> None:
        assert run(self._environ | CURSOR, force=True, evolve=True) == 0
        self._is_followed = True

    @rule(after=st.integers(0, 12), refresh=st.booleans(), cursor=st.booleans())
    def kill(self, after: int, *, refresh: bool, cursor: bool) -> None:
        self._is_fresh = self._is_followed = False
        struck(self._environ | (CURSOR if cursor else {}), after, refresh=refresh)

    @precondition(lambda self: not self._is_fresh)
    @rule(cursor=st.booleans())
    def refresh(self, *, cursor: bool) -> None:
        assert run(self._environ | (CURSOR if cursor else {}), force=True, evolve=True, refresh=Refresh()) == 0
        self._is_fresh = True

    @rule()
    def refresh_a_part(self) -> None:
        assert run(self._environ, force=True, evolve=True, refresh=Refresh(budget_s=1e-9)) == 0

    @rule()
    def verify_a_part(self) -> None:
        assert verify.run(self._environ, scope=Scope(budget_s=1e-9)) in {0, 2, 4}

    @invariant()
    def after_a_refresh_both_are_equal(self) -> None:
        if self._is_fresh:
            assert differences(self._environ) == []

    @invariant()
    def after_a_run_with_a_cursor_no_row_is_behind(self) -> None:
        if self._is_followed:
            assert not_followed(self._environ) == []

    def teardown(self) -> None:
        self._directory.cleanup()


Years.TestCase.settings = settings(max_examples=15, stateful_step_count=20)
TestYears = Years.TestCase
