"""A source that a program goes on writing to: what it left alone arrives as it is, and nothing arrives twice."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from etl.migrate.command import run
from etl.migrate.refresh import Refresh
from etl.verify.scope import Scope
from tests.oracle import expected_shard, opened
from tests.verifier import Verifier
from tests.workplace import Workplace, differences, error_line, migrate, shard_files

ROWS = 4_000
WRITER = """
import random, sqlite3, sys, time
path, rows = sys.argv[1], int(sys.argv[2])
dice = random.Random(5)
database = sqlite3.connect(path, timeout=60, isolation_level=None)
print("writing", flush=True)
while True:  # appends, and updates of even rows only: short, long, with another key
    database.execute("BEGIN IMMEDIATE")
    for _ in range(dice.randrange(1, 20)):
        rowid, note = dice.randrange(1, rows // 2) * 2, "y" * dice.randrange(900)
        database.execute("UPDATE clients SET note = ?, amount = 1.5 WHERE rowid = ?", (note, rowid))
        moved = dice.randrange(1, rows // 8) * 8  # few others: with most keys changed it would not be the same source
        database.execute("UPDATE clients SET k = ? WHERE rowid = ?", (f"+7999{dice.randrange(10**7):07d}", moved))
        database.execute("INSERT INTO clients (k, note) VALUES (?, 'appended')", (f"+7111{dice.randrange(10**7):07d}",))
    database.execute("COMMIT")
    time.sleep(dice.uniform(0, 0.004))
"""

DELETER = """
import sqlite3, sys, time
path, end, pause, rows = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
database = sqlite3.connect(path, timeout=60, isolation_level=None)
database.execute("PRAGMA synchronous = OFF")
print("writing", flush=True)
number = 0
while True:  # a commit each: the row at that end goes, and one in between is updated
    number += 1
    database.execute(f"DELETE FROM clients WHERE rowid = (SELECT {end}(rowid) FROM clients)")
    database.execute("UPDATE clients SET note = 'later' WHERE rowid = ?", (number * 7919 % rows,))
    if end == "min":  # a queue: what goes at one end comes at the other
        database.execute("INSERT INTO clients (k, note) VALUES (?, 'appended')", (str(number),))
    time.sleep(pause)
"""


@contextmanager
def written(place: Workplace, writer: str = WRITER, *options: object) -> Iterator[None]:
    """The source, while a program goes on writing to it."""
    arguments = [sys.executable, "-c", writer, str(place.source), *map(str, options or [ROWS])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        try:
            yield
            assert process.poll() is None, "the writer must have written to the end"
        finally:
            process.kill()
            process.wait()
            with closing(sqlite3.connect(place.source)) as source:  # rolls back what the kill left, as a writer would
                source.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def faults_of_rows(place: Workplace, environ: dict[str, str]) -> Iterator[str]:
    """Rows that are in no shard or in two, and those that were left alone and did not arrive as they are."""
    query = "SELECT rowid, k, INN, note, amount FROM clients"
    rows: dict[int, list[tuple[int, tuple[object, ...]]]] = {}
    for number, path in enumerate(shard_files(environ)):
        with closing(opened(path)) as database:
            for rowid, *cells in database.execute(query):
                rows.setdefault(rowid, []).append((number, tuple(cells)))
            if database.execute("PRAGMA integrity_check").fetchall() != [(b"ok",)]:
                yield f"shard {number} is not sound"
    with closing(opened(place.source)) as source:
        for rowid, *cells in source.execute(query):
            found = rows.pop(rowid, [])
            if len(found) != 1:
                yield f"row {rowid} is in {len(found)} shards"
            elif rowid % 2 or rowid > ROWS:  # what is appended is not updated
                shard = expected_shard(cells[0], num_shards=3, reserved_shard=3)
                if found != [(shard, tuple(cells))]:
                    yield f"row {rowid} is {found}, not {cells} in shard {shard}"
    yield from (f"row {rowid} is not the source's" for rowid in rows)


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_rows_that_a_writer_leaves_alone_arrive_as_they_are(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], journal: str
) -> None:
    workplace.populate(ROWS)
    workplace.script(f"PRAGMA journal_mode = {journal}")
    environ = workplace.environ(INDEX_COLUMNS="k", BATCH_SIZE=20)
    with pytest.MonkeyPatch.context() as patch, written(workplace):
        patch.setattr("etl.runtime.limits.READ_TASK_ROWS", 100)  # many reads, each of another moment
        patch.setattr("etl.runtime.limits.TRANSACTION_ROWS", 100)
        codes = [migrate(environ) for _ in range(2)]
    err = capfd.readouterr().err
    if any(codes):  # the writer may hold the file longer than anyone waits
        assert set(codes) <= {0, 1}
        assert "locked" in error_line(err)
    assert migrate(environ) == 0
    assert list(faults_of_rows(workplace, environ)) == []


def test_a_verification_meanwhile_reports_no_row_that_is_left_alone(workplace: Workplace, verify: Verifier) -> None:
    workplace.populate(ROWS)
    workplace.script("PRAGMA journal_mode = WAL")
    environ = workplace.environ()
    assert migrate(environ) == 0
    with written(workplace):
        for _ in range(3):
            said = verify(environ, Scope(quick=True))
            assert said["exit_code"] in (0, 4)
            assert (said["notes"], said["warnings"]) == ([], [])
            rows = {kind: found["first_rowids"] for kind, found in said["rows"].items()}
            assert rows["missing"] == rows["extra"] == rows["duplicated"] == []
            assert not any(rowid % 2 for rowids in rows.values() for rowid in rowids)
        assert run(environ, force=True, refresh=Refresh()) in (0, 4)
    assert run(environ, force=True, refresh=Refresh()) == 0
    assert differences(environ) == []


@pytest.mark.parametrize("pause", [0.02, 0.0], ids=["some 50 a second", "as fast as it can"])
@pytest.mark.parametrize("end", ["min", "max"])
def test_rows_that_are_deleted_at_one_end_meanwhile_are_no_damage(
    workplace: Workplace, verify: Verifier, end: str, pause: float
) -> None:
    rows = 100_000  # in one read, during which the writer deletes many
    workplace.populate(rows)
    workplace.script("PRAGMA journal_mode = WAL")
    # Where the greatest rowids vanish, the next run rightly asks whether this is the file of before: each has its own.
    directories = [workplace.shards if end == "min" else workplace.shards / run for run in ("one", "two", "last")]
    runs = [workplace.environ(SHARD_DIR=directory, BATCH_SIZE=rows // 2) for directory in directories]
    with written(workplace, DELETER, end, pause, rows):
        assert [migrate(environ) for environ in runs[:2]] == [0, 0]
    assert migrate(runs[2]) == 0
    source, shards = clients([workplace.source]), clients(shard_files(runs[2]))
    said = verify(runs[2])
    assert (said["newer_rows"], said["notes"]) == (0, [])
    assert {kind: found["count"] for kind, found in said["rows"].items()} == {
        "missing": len(source.keys() - shards.keys()),
        "extra": len(shards.keys() - source.keys()),
        "changed": sum(shards[rowid] != row for rowid, row in source.items() if rowid in shards),
        "misplaced": 0,
        "duplicated": 0,
    }
    assert source.keys() <= shards.keys()


def clients(paths: Iterable[Path]) -> dict[int, tuple[object, ...]]:
    """The rows of these files, by rowid."""
    rows = {}
    for path in paths:
        with closing(opened(path)) as database:
            for rowid, *cells in database.execute("SELECT rowid, k, INN, note, amount FROM clients"):
                assert rowid not in rows
                rows[rowid] = tuple(cells)
    return rows


def test_the_check_sees_a_row_that_is_lost_doubled_or_changed(workplace: Workplace) -> None:
    workplace.populate(100)
    environ = workplace.environ()
    assert migrate(environ) == 0
    workplace.script("UPDATE clients SET note = 'changed' WHERE rowid = 51", "INSERT INTO clients (k) VALUES ('new')")
    workplace.script("DELETE FROM clients WHERE rowid = 7")
    assert len(list(faults_of_rows(workplace, environ))) == 3
