"""Readers of finished shards while a run writes: neither ever waits for the other, or fails because of it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.completeness import faults_of
from tests.workplace import Process, Workplace, migrate, shard_files

ROWS = 2_000
HOLDS = """
import sqlite3, sys
held = []
for path in sys.argv[1:]:
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    database.execute("BEGIN")
    held.append((database, database.execute("SELECT count(*) FROM clients").fetchone()[0]))
print("holding", flush=True)
sys.stdin.readline()
again = [database.execute("SELECT count(*) FROM clients").fetchone()[0] for database, _ in held]
print("same" if again == [rows for _, rows in held] else "other rows", flush=True)
"""
"""Holds a read transaction on each shard until it gets a line, then reads once more."""
POLLS = """
import json, os, sqlite3, sys
paths, faults, passes = sys.argv[1:], [], 0
print("polling", flush=True)
while os.getppid() == int(os.environ["PARENT"]) and not os.path.exists(os.environ["STOP"]):
    for path in paths:
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                database.execute("SELECT count(*), max(INN) FROM clients").fetchall()
            database.close()
        except sqlite3.Error as error:
            faults.append(f"{path}: {error}")
    passes += 1
print(json.dumps({"passes": passes, "faults": faults[:5]}))
"""
"""Opens, reads and closes each shard again and again, as an application without a pool does."""


@contextmanager
def reader(code: str, environ: dict[str, str], **more: str) -> Iterator[Process]:
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, shard_files(environ))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=more,
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def end(process: Process) -> str:
    """Lets the reader that holds its transactions read once more; what it says."""
    out, _ = process.communicate("\n")
    return out.strip()


@pytest.fixture
def environ(workplace: Workplace) -> dict[str, str]:
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    return environ


@pytest.mark.parametrize("new_rows", [100, ROWS], ids=["indexes kept", "indexes dropped and built again"])
def test_a_reader_that_holds_a_transaction_makes_no_run_fail(
    workplace: Workplace, environ: dict[str, str], new_rows: int
) -> None:
    with reader(HOLDS, environ) as process:
        for number in range(3):
            workplace.populate(new_rows, first=ROWS + 1 + number * new_rows, seed=number)
            assert migrate(environ) == 0
        assert end(process) == "same"
    assert migrate(environ) == 0
    assert faults_of(environ) == []


def test_a_reader_does_not_stop_the_joining_of_lines_or_the_discarding_of_a_window(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.shards.compaction.MOST_LINES", 10)
    path = shard_files(environ)[0]
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM clients WHERE rowid > 1900")
        database.execute("DELETE FROM _etl_windows WHERE first_rowid = 1901")
    with reader(HOLDS, environ) as process:
        assert migrate(environ) == 0
        assert end(process) == "same"
    assert faults_of(environ) == []


def test_a_checkpoint_that_waits_for_a_reader_makes_no_run_fail(
    workplace: Workplace, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wal_checkpoint(TRUNCATE)` of another program keeps writers away while it waits for readers."""
    monkeypatch.setattr("etl.sqlite.adbc.BUSY_TIMEOUT_MS", 200)
    waits = """
import sqlite3, sys
databases = [sqlite3.connect(path, timeout=2) for path in sys.argv[1:3]]
for database in databases:
    database.execute("SELECT count(*) FROM clients").fetchall()
print("checkpointing", flush=True)
print([database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall() for database in databases])
"""
    with reader(HOLDS, environ) as held:
        workplace.populate(100, first=ROWS + 1)
        assert migrate(environ) == 0  # so that there is something to checkpoint
        workplace.populate(100, first=ROWS + 101)
        with reader(waits, environ) as checkpoint:
            assert migrate(environ) == 0
            out, _ = checkpoint.communicate()
            assert "(1, " in out, "the checkpoint did not wait"
        assert end(held) == "same"
    assert faults_of(environ) == []


def test_readers_that_come_and_go_during_runs_are_never_turned_away(
    workplace: Workplace, environ: dict[str, str], tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    with reader(POLLS, environ, STOP=str(stop), PARENT=str(os.getpid())) as process:
        for number, new_rows in enumerate((10, 3_000, 10)):
            workplace.populate(new_rows, first=ROWS + 1 + number * 10_000, seed=number)
            assert migrate(environ) == 0
        stop.touch()
        said = json.loads(process.communicate()[0])
    assert said["passes"] > 2
    assert said["faults"] == []
