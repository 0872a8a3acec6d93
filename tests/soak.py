"""A long trial by kill -9: python -m tests.soak [ROWS] [KILLS] migrates the demo's table, killed at random moments.

Each run's peak memory is printed, and at the end what the oracle finds between source and shards: nothing, one hopes.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from etl.migrate.demo import make_source
from tests.oracle import compare
from tests.workplace import REPOSITORY

SEED = 20_26


def main(rows: int = 1_000_000, kills: int = 10) -> int:
    dice = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_source(directory / "clients.db", rows)
        undisturbed = _run(directory, directory / "whole")[0]
        rate = rows / undisturbed
        print(f"undisturbed: {undisturbed:.1f} s, {rate:,.0f} rows/s on {os.cpu_count()} cores, process and all")
        for kill in range(1, kills + 1):
            after = dice.uniform(0.8, max(1.0, undisturbed / 2))
            seconds, code, peak_mb = _run(directory, directory / "shards", kill_after=after)
            print(
                f"run {kill}: exit {code} after {seconds:.1f} s, peak {peak_mb:.0f} MB, done {_done(directory):,} rows"
            )
        seconds, code, peak_mb = _run(directory, directory / "shards")
        print(f"last run: exit {code} after {seconds:.1f} s, peak {peak_mb:.0f} MB")
        found = compare(
            directory / "clients.db",
            directory / "shards",
            table="clients",
            key="MOBILE_NUMBER",
            num_shards=10,
            reserved_shard=10,
        )
        print("\n".join(found) or f"equal: all {rows:,} rows, cell by cell")
        return 1 if found or code else 0


def _run(directory: Path, shards: Path, kill_after: float | None = None) -> tuple[float, int, float]:
    """Wall seconds, exit code, and peak memory in MB of one run."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "SOURCE_DB": str(directory / "clients.db"),
        "SHARD_DIR": str(shards),
        "LOG_DIR": str(directory),
    }
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "etl.migrate"],
        env=environ,
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if kill_after is not None:
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    return time.monotonic() - start, os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1000


def _done(directory: Path) -> int:
    """Rows committed so far, read as any SQLite program would after a crash."""
    rows = 0
    for path in (directory / "shards").glob("*.db"):
        with closing(sqlite3.connect(path)) as database:
            tables = database.execute("SELECT count(*) FROM sqlite_schema WHERE name = '_etl_windows'").fetchone()[0]
            rows += database.execute("SELECT ifnull(sum(rows), 0) FROM _etl_windows").fetchone()[0] if tables else 0
    return rows


if __name__ == "__main__":
    sys.exit(main(*(int(argument) for argument in sys.argv[1:])))
