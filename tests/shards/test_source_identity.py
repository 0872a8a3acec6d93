"""The source of a later run must be the one of the runs before: told by its rows, whatever its path."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from etl.status import command as status
from etl.verify.command import run as verify
from tests.faults import FORCED
from tests.shards.test_identity import assert_stopped
from tests.workplace import Workplace, differences, error_line, migrate, shard_files, snapshot

ROWS = 500


@pytest.fixture
def done(workplace: Workplace) -> Workplace:
    """Rows in the shards, in windows of several runs, and twenty more in the source."""
    for first, rows in ((1, 300), (301, 100), (401, 100)):
        workplace.populate(rows, first=first, seed=first)
        assert migrate(workplace.environ()) == 0
    workplace.populate(20, first=ROWS + 1, seed=9)
    return workplace


def rebuild(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


OTHERS = {
    "another file": ("UPDATE clients SET k = 'new ' || rowid, INN = rowid, note = 'other', amount = -1",),
    "another file, and longer": ("DELETE FROM clients", "INSERT INTO clients VALUES ('a', 'b', 'c', 1)"),
    "an older copy": ("DELETE FROM clients WHERE rowid > 400",),
    "an older copy that grew on": (
        "UPDATE clients SET k = 'later ' || rowid, INN = 'x', note = 'y' WHERE rowid > 400",
    ),
    "no row left": ("DELETE FROM clients",),
    "rowids moved by VACUUM": ("DELETE FROM clients WHERE rowid < 50", "VACUUM"),
    "rowids moved by VACUUM because of one row": ("DELETE FROM clients WHERE rowid = 3", "VACUUM"),
}


@pytest.mark.parametrize("statements", OTHERS.values(), ids=OTHERS.keys())
def test_a_source_with_other_rows_is_refused(
    done: Workplace, capfd: pytest.CaptureFixture[str], statements: tuple[str, ...]
) -> None:
    rebuild(done.source, *statements)
    message = assert_stopped(done.environ(), capfd)
    assert str(done.source) in message
    assert "rowids" in message
    assert "--force" in message
    before = snapshot(shard_files(done.environ()))
    assert verify(done.environ(), repair=True) == 2
    assert snapshot(shard_files(done.environ())) == before
    asked_alike = message.partition(", found")[0]
    assert error_line(capfd.readouterr().err).startswith(asked_alike)


def test_rowids_that_moved_where_nothing_is_new_are_refused_too(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(ROWS)
    assert migrate(workplace.environ()) == 0
    rebuild(workplace.source, "DELETE FROM clients WHERE rowid = 1", "VACUUM")
    assert "VACUUM" in assert_stopped(workplace.environ(), capfd)


def test_a_killed_loads_source_is_compared_as_well(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    workplace.populate(ROWS)
    assert migrate(workplace.environ()) == 0
    shard_files(workplace.environ())[1].unlink()
    rebuild(workplace.source, "DELETE FROM clients WHERE rowid < 50", "VACUUM")
    assert_stopped(workplace.environ(), capfd)


SAME = {
    "VACUUM where no row is missing": ("VACUUM",),
    "old rows deleted": ("DELETE FROM clients WHERE rowid <= 400",),
    "the last row deleted": ("DELETE FROM clients WHERE rowid = 500",),
    "every row updated but for its key": ("UPDATE clients SET note = 'called', amount = amount + 1",),
    "the keys of old rows updated": ("UPDATE clients SET k = '+' || k WHERE rowid <= 40",),
}


@pytest.mark.parametrize("statements", SAME.values(), ids=SAME.keys())
def test_what_an_application_does_to_its_rows_stops_no_run(done: Workplace, statements: tuple[str, ...]) -> None:
    rebuild(done.source, *statements)
    assert migrate(done.environ()) == 0
    assert migrate(done.environ()) == 0
    assert verify(done.environ(), repair=True) == 0
    assert differences(done.environ()) == []


def test_a_moved_or_copied_source_is_the_same(done: Workplace) -> None:
    moved = done.root / "elsewhere" / "renamed.db"
    moved.parent.mkdir()
    shutil.move(done.source, moved)
    environ = done.environ(SOURCE_DB=moved)
    assert migrate(environ) == 0
    assert differences(environ) == []


def test_a_row_at_rowid_zero_and_rows_of_each_storage_class_are_compared(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.script(
        "CREATE TABLE clients (k, a)",
        "INSERT INTO clients (rowid, k, a) VALUES (0, x'ff', CAST(x'ff00' AS TEXT)), (-3, 0.1, 9007199254740993)",
    )
    environ = workplace.environ()
    assert migrate(environ) == 0
    assert migrate(environ) == 0
    workplace.script(
        "UPDATE clients SET k = x'fe' WHERE rowid = 0", "UPDATE clients SET k = 0.1000000000000001, a = 1.5"
    )
    assert_stopped(environ, capfd)


def test_a_refusal_can_be_overruled_and_new_rows_arrive(done: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    rebuild(done.source, "UPDATE clients SET k = 'new ' || rowid WHERE rowid <= 500")
    assert_stopped(done.environ(), capfd)
    forced = done.command(done.environ(), *FORCED)
    assert forced.code == 0, forced.err
    assert forced.out.startswith("done: 20 rows")
    logged = [json.loads(line) for path in done.logs.glob("logs/*") for line in path.read_text().splitlines()]
    assert any(line["event"] == "source" and "rowids" in line["changed"] for line in logged)


def test_rowids_used_again_after_a_restored_backup_are_told_on_the_console_and_in_status(
    done: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    """Too few rows differ for a refusal: the warning must be where an operator looks."""
    rebuild(
        done.source, "UPDATE clients SET k = 'later ' || rowid, INN = 'x', note = 'y' WHERE rowid BETWEEN 495 AND 500"
    )
    assert migrate(done.environ()) == 0
    assert "rowids 495, 496, 497, 498, 499" in capfd.readouterr().err
    assert status.run(done.environ()) == 0
    said = capfd.readouterr().out
    assert re.search(r"warning: .*6 of \d+ rows compared are not the rows that the shards have", said)


def test_what_a_shrunken_source_has_done_is_never_less_than_nothing(done: Workplace) -> None:
    rebuild(done.source, "DELETE FROM clients WHERE rowid > 100")
    shard_files(done.environ())[1].unlink()
    forced = done.command(done.environ(LOG_DIR=done.root / "other"), *FORCED)
    assert forced.code == 0, forced.err
    (path,) = (done.root / "other" / "logs").iterdir()
    (plan,) = (line for line in map(json.loads, path.read_text().splitlines()) if line["event"] == "plan")
    assert plan["rowids"] == "1..100"
    assert plan["done"] == "75.0%", "three of four shards have all its rowids"
