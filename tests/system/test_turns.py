"""A verification and runs at the same time: runs go first, then the verification goes on, with no false difference."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.damage import ROWS, Environ
from tests.faults import hang, start
from tests.workplace import (
    PATIENCE_SECONDS,
    REPOSITORY,
    Outcome,
    Process,
    Workplace,
    await_line,
    differences,
    finished,
    migrate,
)

VERIFY = """
import os, sys, time
from pathlib import Path
from etl.runtime.rate_limit import RateLimit
from etl.verify import blocks
from etl.verify.command import run
def wait(_, rows, go_on):
    while Path(sys.argv[1]).exists() and go_on():
        time.sleep(0.02)
RateLimit.wait = wait
blocks.BLOCK_BYTES = 1
sys.exit(run(os.environ))
"""
"""A verification in blocks of one window. After the first it waits for a run, or until a file is gone."""
RUN = """
import os, sys
from etl.migrate.command import Refresh, run
from etl.shards import compaction
compaction.MOST_LINES, compaction.JOINED_LINES, compaction.NEWEST_LINES = map(int, sys.argv[2:])
sys.exit(run(os.environ, refresh=Refresh() if sys.argv[1] == "refresh" else None))
"""
NOWHERE = "nowhere"
PLAIN = ("run", "8000", "4000", "100")


@contextmanager
def process(code: str, environ: Environ, *arguments: object) -> Iterator[Process]:
    started = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


def ended(code: str, environ: Environ, *arguments: object) -> Outcome:
    with process(code, environ, *arguments) as started:
        return finished(started)


def held(place: Workplace) -> Path:
    """A file that keeps a verification after its first block."""
    path = place.root / "held"
    path.touch()
    return path


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waits(environ: Environ, *, name: str) -> bool:
    """Whether a command has logged that it waits."""
    logs = Path(environ["LOG_DIR"]).glob(f"logs/{name}_*.log")
    return any('"event": "waiting"' in path.read_text() for path in logs)


def last_verification(environ: Environ) -> dict[str, object]:
    path = Path(environ["SHARD_DIR"]) / "clients_verify.json"
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_runs_in_the_middle_of_a_verification_do_their_work_and_it_goes_on(
    workplace: Workplace, migrated: dict[str, str]
) -> None:
    with process(VERIFY, migrated, held(workplace)) as verification:
        until(lambda: holds_the_shards(verification, workplace))
        workplace.populate(150, first=ROWS + 1, seed=2)
        assert ended(RUN, migrated, *PLAIN).code == 0
        assert verification.poll() is None, "the run did not wait for its end"
        workplace.script(
            f"UPDATE clients SET note = 'new' WHERE rowid BETWEEN {ROWS - 90} AND {ROWS}",
            f"UPDATE clients SET k = 'moved' || rowid WHERE rowid BETWEEN {ROWS - 20} AND {ROWS}",
            f"DELETE FROM clients WHERE rowid = {ROWS - 50}",
        )
        assert ended(RUN, migrated, "refresh", *PLAIN[1:]).code == 0
        assert verification.poll() is None
        held(workplace).unlink()
        outcome = finished(verification)
    assert outcome.code == 0, outcome
    assert last_verification(migrated)["outcome"] == "equal"
    assert last_verification(migrated)["source_rows"] == ROWS - 1 + 150, "what was loaded meanwhile is compared, too"
    assert differences(migrated) == []


def test_lines_that_are_joined_meanwhile_are_compared_once(workplace: Workplace, migrated: dict[str, str]) -> None:
    with process(VERIFY, migrated, held(workplace)) as verification:
        until(lambda: holds_the_shards(verification, workplace))
        assert ended(RUN, migrated, "run", 8, 4, 2).code == 0
        assert verification.poll() is None
        held(workplace).unlink()
        assert finished(verification).code == 0
    found = last_verification(migrated)
    assert (found["outcome"], found["source_rows"]) == ("equal", ROWS)
    assert int(str(found["windows"])) < ROWS // 100


def test_a_verification_waits_for_a_run_that_is_killed(workplace: Workplace, migrated: dict[str, str]) -> None:
    workplace.populate(ROWS, first=ROWS + 1, seed=2)
    with start(migrated, "before a commit", 9, hang) as run:
        await_line(run, "hanging")
        with process(VERIFY, migrated, NOWHERE) as verification:
            until(lambda: waits(migrated, name="verify"))
            assert verification.poll() is None
            run.kill()
            finished(run)
            outcome = finished(verification)
    assert (outcome.code, last_verification(migrated)["outcome"]) == (2, "unfinished"), outcome
    assert migrate(migrated) == 0
    assert differences(migrated) == []


def test_a_run_does_not_wait_for_a_verification_that_is_killed(workplace: Workplace, migrated: dict[str, str]) -> None:
    workplace.populate(150, first=ROWS + 1, seed=2)
    with process(VERIFY, migrated, held(workplace)) as verification:
        until(lambda: holds_the_shards(verification, workplace))
        verification.send_signal(signal.SIGSTOP)
        with process(RUN, migrated, *PLAIN) as run:
            until(lambda: waits(migrated, name="migration"))
            assert run.poll() is None
            verification.kill()
            assert finished(run).code == 0
    assert ended(VERIFY, migrated, NOWHERE).code == 0
    assert differences(migrated) == []


def holds_the_shards(verification: Process, place: Workplace) -> bool:
    """Whether the kernel knows that it holds the lock."""
    inode = str((place.shards / ".etl-shards.lock").stat().st_ino)
    locks = Path("/proc/locks").read_text().splitlines()
    return any(line.split()[4] == str(verification.pid) and line.split()[5].endswith(f":{inode}") for line in locks)


def test_a_second_verification_is_turned_away_and_a_stop_ends_the_wait(
    workplace: Workplace, migrated: dict[str, str]
) -> None:
    with process(VERIFY, migrated, held(workplace)) as verification:
        until((workplace.shards / ".etl-verify.json").exists)
        second = ended(VERIFY, migrated, NOWHERE)
        assert second.code == 3
        assert f"the verification with pid {verification.pid}, started " in second.err
        verification.send_signal(signal.SIGTERM)
        assert finished(verification).code == 143
    workplace.populate(ROWS, first=ROWS + 1, seed=2)
    with start(migrated, "before a commit", 9, hang) as run:
        await_line(run, "hanging")
        with process(VERIFY, migrated, NOWHERE) as verification:
            until(lambda: '"event": "waiting"' in newest_log(workplace))
            verification.send_signal(signal.SIGTERM)
            outcome = finished(verification)
        run.kill()
        finished(run)
    assert outcome.code == 143
    assert "stopped by SIGTERM: 0.0 % of rows compared" in outcome.out


def newest_log(place: Workplace) -> str:
    paths = sorted(place.logs.glob("logs/verify_*.log"))
    return paths[-1].read_text() if paths else ""
