"""Stopped at any instant, a migration is finished by the next run."""

import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from tests.oracle import opened
from tests.workplace import (
    REPOSITORY,
    Workplace,
    await_bytes,
    await_file,
    differences,
    error_line,
    finished,
    migrate,
    shard_files,
    snapshot,
)

ROWS = 60_000
MANY_WINDOWS = {"BATCH_SIZE": 100, "READERS": 1}
# A transaction holds tens of thousands of a shard's rows: this many rows in so few shards make several.
MANY_ROWS = 600_000
MANY_COMMITS = {"NUM_SHARDS": 2, "RESERVED_SHARD": 2, "BATCH_SIZE": 500, "READERS": 1}
KILLS = 7


def ledgers(environ: dict[str, str]) -> list[list[tuple[int, int]]]:
    """The windows of each shard."""
    found = []
    for path in shard_files(environ):
        with closing(opened(path)) as database:
            found.append(database.execute("SELECT first_rowid, last_rowid FROM _etl_windows ORDER BY 1").fetchall())
    return found


def rows_done(environ: dict[str, str]) -> int:
    """The rows in the ledgers after a kill, read from a copy: the journals are left to the next run."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(environ["SHARD_DIR"], copy, dirs_exist_ok=True)
        total = 0
        for path in Path(copy).glob("*_shard_*.db"):
            with closing(sqlite3.connect(path)) as database:
                if database.execute("SELECT 1 FROM sqlite_master WHERE name = '_etl_windows'").fetchone():
                    total += database.execute("SELECT coalesce(sum(rows), 0) FROM _etl_windows").fetchone()[0]
    return total


def test_runs_killed_at_any_instant_are_finished_by_the_next(workplace: Workplace) -> None:
    workplace.populate(MANY_ROWS)
    dice, killed, done = random.Random(2024), 0, []
    size = workplace.source.stat().st_size
    for attempt in range(KILLS):
        environ = workplace.environ(**MANY_COMMITS, LOG_DIR=workplace.root / f"logs{attempt}", INDEX_COLUMNS="k,INN")
        with workplace.start(environ) as process:
            # The shards grow with each commit, and once more while they are indexed.
            await_bytes(process, environ, int(size * 1.2 * attempt / KILLS))
            time.sleep(dice.uniform(0, 0.1))
            process.kill()
            killed += finished(process).code == -signal.SIGKILL
        done.append(rows_done(environ))
    assert killed > KILLS / 2, "most runs were over before their kill"
    assert any(0 < rows < MANY_ROWS for rows in done), f"no kill came between two commits: {done}"
    last = workplace.command(environ)
    assert last.code == 0, last.err
    assert differences(environ) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_windows_in_flight_commit(workplace: Workplace, number: signal.Signals) -> None:
    workplace.populate(MANY_ROWS)
    environ = workplace.environ(**MANY_COMMITS)
    with workplace.start(environ) as process:
        await_bytes(process, environ, 1_000_000)
        process.send_signal(number)
        stopped = finished(process)
    assert stopped.code == 128 + number, stopped.err
    assert "Traceback" not in stopped.out + stopped.err
    windows = ledgers(environ)
    assert 0 < rows_done(environ) < MANY_ROWS
    assert all(shard == windows[0] for shard in windows)
    manifest = pl.read_parquet(f"{workplace.shards}/manifest/*.parquet").select("first_rowid", "last_rowid")
    assert sorted(manifest.rows()) == windows[0]
    assert workplace.command(environ).code == 0
    assert differences(environ) == []


def test_a_second_run_is_turned_away_while_the_first_goes_on(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(**MANY_WINDOWS)
    with workplace.start(environ) as first:
        await_file(first, workplace.shards, "*_shard_*.db")
        first.send_signal(signal.SIGSTOP)
        second = workplace.command(environ | {"LOG_DIR": str(workplace.root / "other logs")})
        first.send_signal(signal.SIGCONT)
        assert finished(first).code == 0
    assert second.code == 3
    message = error_line(second.err)
    assert re.search(rf"\b{first.pid}\b", message)
    assert re.search(r"\d{4}-\d\d-\d\d.\d\d:\d\d", message)
    assert differences(environ) == []


def test_a_lock_left_by_a_killed_run_does_not_block(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(**MANY_WINDOWS)
    with workplace.start(environ) as process:
        await_file(process, workplace.shards, "*_shard_*.db")
        process.kill()
    after = workplace.command(environ)
    assert after.code == 0, after.err
    assert differences(environ) == []


def seconds(*arguments: str, environ: dict[str, str]) -> float:
    """The best of three."""
    durations = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run(
            [sys.executable, *arguments], check=True, capture_output=True, cwd=environ["SHARD_DIR"], env=environ
        )
        durations.append(time.monotonic() - started)
    return min(durations)


def test_a_run_with_nothing_new_does_nothing_quickly_and_says_so(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(BATCH_SIZE=6000, INDEX_COLUMNS="k,INN")
    assert migrate(environ) == 0
    before = snapshot(shard_files(environ))
    again = workplace.command(environ)
    assert again.code == 0
    assert re.search("nothing|up to date|no new", again.out + again.err, re.IGNORECASE)
    assert {path: state.digest for path, state in snapshot(shard_files(environ)).items()} == {
        path: state.digest for path, state in before.items()
    }
    process_environ = environ | {"PYTHONPATH": str(REPOSITORY)}
    importing = seconds("-c", "import etl.migrate", environ=process_environ)
    assert seconds("-m", "etl.migrate", environ=process_environ) < 2 + importing


def test_new_rows_are_picked_up(workplace: Workplace) -> None:
    for first in (1, 1001, 5_000_000_000):
        workplace.populate(1000, first=first, seed=first)
        environ = workplace.environ()
        assert migrate(environ) == 0
        assert differences(environ) == []
