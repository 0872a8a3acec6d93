"""The cursor column: rows that were updated since the last run follow with the next one, and no others are written."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from etl.migrate.command import run, show_plan
from etl.verify.command import run as verified
from tests.commands import ran
from tests.oracle import opened
from tests.workplace import REPOSITORY, Workplace, differences, error_line, log_events, migrate, shard_files, snapshot

ROWS = 400
MARKER = "Zxq7secret"
CURSORS = {
    "integer": ("INTEGER", "rowid", "1000"),
    "real": ("REAL", "rowid / 7.0", "1000.1"),
    "a real that is no round number": ("REAL", "rowid * 0.1", "0.1 + 0.2 + 1e6"),
    "text": ("TEXT", "printf('2026-01-01 %06d', rowid)", "'2026-02'"),
    "text of another collation": ("TEXT COLLATE NOCASE", "printf('a%06d', rowid)", "'B'"),
    "no type": ("", "rowid", "'a text is above every number'"),
    "blob": ("BLOB", "CAST(printf('%06d', rowid) AS BLOB)", "x'ff'"),
    "an infinite one": ("REAL", "rowid", "9e999"),
}


def migrated(place: Workplace, declared: str = "INTEGER", cells: str = "rowid", **changes: str | int) -> dict[str, str]:
    place.populate(ROWS)
    place.script(
        f"ALTER TABLE clients ADD at {declared}", f"UPDATE clients SET at = {cells}", "CREATE INDEX i ON clients (at)"
    )
    environ = place.environ(CURSOR_COLUMN="AT", **changes)
    assert migrate(environ) == 0
    return environ


def kept(place: Workplace) -> Path:
    return place.shards / "clients_cursor.json"


@pytest.mark.parametrize(("declared", "cells", "later"), CURSORS.values(), ids=CURSORS.keys())
def test_updated_rows_follow_with_the_next_run(workplace: Workplace, declared: str, cells: str, later: str) -> None:
    workplace.script(f"PRAGMA encoding = '{'UTF-16le' if 'TEXT' in declared else 'UTF-8'}'")
    environ = migrated(workplace, declared, cells)
    workplace.script(
        f"UPDATE clients SET note = 'new', at = {later} WHERE rowid IN (5, 200)",
        f"UPDATE clients SET k = 'elsewhere', at = {later} WHERE rowid BETWEEN 40 AND 49",
        f"INSERT INTO clients (k, at) VALUES ('new', {later})",
    )
    assert migrate(environ) == 0
    assert differences(environ) == []
    workplace.script(f"UPDATE clients SET note = 'newer', at = {later} WHERE rowid IN (5, 6)")  # the same cell again
    before = log_events(workplace, "replaced")
    assert migrate(environ) == 0
    assert differences(environ) == []
    assert [event["rows"] for event in log_events(workplace, "replaced")[len(before) :]] == [2]
    assert verified(environ) == 0, "the manifest and the ledgers, too"


def test_what_is_said_and_what_is_written(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    environ = migrated(workplace)
    workplace.script(
        "UPDATE clients SET note = 'new', at = 1000 WHERE rowid = 7", "UPDATE clients SET at = NULL, k = 'x'"
    )
    workplace.script("UPDATE clients SET k = 'y', at = 1000 WHERE rowid = 8")
    capsys.readouterr()
    assert run(environ, force=True) == 0
    assert "nothing new: the source has no rowid above 400; 1 row updated" in capsys.readouterr().out
    before = snapshot([*shard_files(environ), kept(workplace)])
    assert run(environ, force=True) == 0
    assert "updated" not in capsys.readouterr().out
    assert snapshot(before) == before
    assert kept(workplace).stat().st_mode & 0o777 == 0o600
    assert differences(environ), "rows with NULL are left to a refresh"


def test_a_wrong_column_is_refused(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    workplace.script("CREATE TABLE clients (id INTEGER PRIMARY KEY, k TEXT, at, day AS (at / 2))")
    for name, said in (("ET", "found only: id, k, at, day"), ("ID", "found the rowid")):
        assert migrate(workplace.environ(CURSOR_COLUMN=name)) == 2
        assert said in error_line(capsys.readouterr().err)
        assert not shard_files(workplace.environ())
    assert show_plan(workplace.environ(CURSOR_COLUMN="ET")) == 2
    assert "found only: id" in capsys.readouterr().err
    workplace.script("INSERT INTO clients (k, at) VALUES ('a', 1), ('b', 2), ('c', 3)")
    environ = workplace.environ(CURSOR_COLUMN="day")  # a computed column, and below the key
    assert migrate(environ) == 0
    workplace.script("UPDATE clients SET k = 'new', at = 9 WHERE id = 1")
    assert migrate(environ | {"SHARD_KEY": "k"}) == 0
    assert differences(environ) == []


def test_a_plan_says_whether_there_is_an_index(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    environ = migrated(workplace)
    show_plan(environ)
    assert "cursor: at, with an index of the source" in capsys.readouterr().out
    workplace.script("DROP INDEX i", "CREATE INDEX i ON clients (k, at)")
    show_plan(environ)
    assert "no index of the source begins with it" in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["lost", "cut", "emptied", "another column", "edited"])
def test_a_lost_cursor_compares_all_rows(workplace: Workplace, harm: str) -> None:
    environ = migrated(workplace)
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid IN (7, 300)")  # at or above none
    if harm == "lost":
        kept(workplace).unlink()
    elif harm == "another column":
        environ["CURSOR_COLUMN"] = "amount"
    elif harm == "edited":
        kept(workplace).write_text(kept(workplace).read_text().replace(str(ROWS), str(10**30)))
    else:
        kept(workplace).write_bytes(kept(workplace).read_bytes()[: 30 if harm == "cut" else 0])
    assert migrate(environ) == 0
    assert differences(environ) == []
    assert "all rows are compared" in log_events(workplace, "cursor")[-1]["restart"]


def test_the_cell_is_in_one_file_only(workplace: Workplace) -> None:
    environ = migrated(workplace, "TEXT", f"'{MARKER}' || rowid")
    workplace.script(f"UPDATE clients SET note = 'new', at = '{MARKER}z' WHERE rowid = 9")
    said = ran("etl.migrate", environ, "-v")
    assert said.code == 0
    files = [path for path in workplace.root.rglob("*") if path.is_file() and path.suffix not in (".db", "-wal")]
    forms = (MARKER, MARKER.encode().hex())
    found = {path.name for path in files for form in forms if form.encode() in path.read_bytes()}
    assert found <= {"clients_cursor.json"}
    assert not any(form in said.out + said.err for form in forms)


def test_rows_in_batches_after_new_ones_and_a_stop_between(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.shards.cursor._BATCH_ROWS", 90)
    environ = migrated(workplace)
    before = kept(workplace).read_bytes()
    workplace.script("UPDATE clients SET note = 'all', at = at + 1000", "INSERT INTO clients (k) VALUES ('new')")
    assert run(environ | {"MAX_RATE": "50"}, stop_after_s=0.5, force=True) == 0
    assert kept(workplace).read_bytes() == before
    left = differences(environ)
    assert left
    assert not any(f"row {ROWS + 1}" in each for each in left)
    assert run(environ, force=True) == 0
    assert differences(environ) == []


def test_rows_of_an_application_stay_and_are_written_once(workplace: Workplace) -> None:
    environ = migrated(workplace)
    with closing(opened(shard_files(environ)[0])) as database:
        (rowid,) = next(
            r for r in [(7,), (8,), (9,)] if not database.execute("SELECT 1 FROM clients WHERE rowid = ?", r).fetchall()
        )
    with closing(sqlite3.connect(shard_files(environ)[0])) as database, database:
        database.execute("INSERT INTO clients (rowid, k) VALUES (?, 'of the application')", (rowid,))
    workplace.script(f"UPDATE clients SET note = 'new', at = 1000 WHERE rowid = {rowid}")
    assert migrate(environ) == 0
    assert migrate(environ) == 0
    assert [event["rows"] for event in log_events(workplace, "replaced")] == [1]
    assert differences(environ)[0] == f"shard 0: row {rowid} should not be there"


def test_a_lost_shard_gets_its_rows_and_the_others_theirs(workplace: Workplace) -> None:
    environ = migrated(workplace)
    shard_files(environ)[1].unlink()
    workplace.script("UPDATE clients SET k = 'moved' || rowid, at = 1000 WHERE rowid % 10 = 0")
    assert run(environ, force=True) == 0
    assert run(environ, force=True) == 0
    assert differences(environ) == []


STRIKE = """
import os, signal
from etl.sqlite.adbc import Connection
real, left = Connection.execute, [{after}]
def execute(self, statement):
    found = real(self, statement)
    if statement == "COMMIT":
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    return found
Connection.execute = execute
from etl.migrate.command import run, show_plan
raise SystemExit(run(os.environ, force=True))
"""


@pytest.mark.parametrize("after", range(1, 8))
def test_a_run_that_was_killed_at_a_commit_leaves_no_row_out(workplace: Workplace, after: int) -> None:
    environ = migrated(workplace, NUM_SHARDS=3)
    workplace.script(
        "UPDATE clients SET k = 'moved' || rowid, at = 1000 + rowid WHERE rowid % 10 = 0",
        "INSERT INTO clients (k, at) VALUES ('new', 5000)",  # loaded, it must not raise the cursor of the next run
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environ}
    code = STRIKE.format(after=after)
    ended = subprocess.run([sys.executable, "-c", code], cwd=workplace.root, env=env, capture_output=True, check=False)
    assert ended.returncode in (-signal.SIGKILL, 0)
    assert run(environ, force=True) == 0
    assert differences(environ) == []
