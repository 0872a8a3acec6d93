"""The status file of a run, `SHARD_DIR/<TABLE_NAME>_status.json`, and the result file of a verification.

The ledgers record what is in the shards. If the status file is lost, only the time of the last success is lost.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from etl.core.errors import AlreadyRunning
from etl.runtime import files, lock
from etl.status.progress import Figures

RUNNING, INTERRUPTED = "running", "interrupted"
UNFINISHED = (RUNNING, "stopped", "failed")
"""Outcomes of a run that may have left work, once it is dead."""
FORMAT_VERSION = 1

_SILENCE = timedelta(seconds=60)
"""A run on another machine that has written nothing for this time counts as dead."""
_SAME_PROCESS_S = 2.0
"""A process's start time is derived from the clock, which may have been set since."""


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard, as a run sees it."""

    shard: int
    rows: int
    bytes: int
    write_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus(Figures):
    """A run, as it describes itself. Times are ISO 8601 in UTC."""

    table: str
    run_id: str
    host: str
    pid: int
    process_started_s: float
    """Seconds since 1970: distinguishes the process from a later one with the same pid."""
    outcome: str = RUNNING
    """running, done, nothing new, stopped, failed or refused."""
    exit_code: int | None = None
    """None while it runs."""
    error: str | None = None
    started_at: str
    updated_at: str
    ended_at: str | None = None
    last_success_at: str | None
    """When a run last ended with exit code 0: this one, or one before it."""
    rss_bytes: int = 0
    shards: Sequence[ShardStatus]
    lag_rows: int | None = None
    """Rows of the source after the last row in the shards, when the run ended; None while it runs, or if unknown."""
    last_full_proof_at: str | None = None
    """When the last verification ended that compared all rows and found them equal."""
    last_verification_at: str | None = None
    """When the last verification ended, whatever it found."""
    last_verification_exit_code: int | None = None
    rows_differing: int | None = None
    """Rows that the last verification found different; None before the first."""
    sealed_at: str | None = None
    """When the cut-over was."""
    warnings: Sequence[str] = ()
    """What the operator should know, although it did not end the run."""
    format_version: int = FORMAT_VERSION


def path_of(shard_dir: Path, table: str) -> Path:
    return files.STATUS.path(shard_dir, table)


def verification_path(shard_dir: Path, table: str) -> Path:
    return files.VERIFICATION.path(shard_dir, table)


def write(path: Path, status: RunStatus) -> None:
    """Replaces the file atomically. It is not synced: nothing depends on it."""
    values = {"table": status.table} | asdict(status)  # `files.STATUS` is recognised by its first key
    files.replace(path, json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogateescape"))


def read(path: Path) -> RunStatus | None:
    """The status in the file; None if there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        given = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
        if given["format_version"] == FORMAT_VERSION:
            return RunStatus(**given | {"shards": [ShardStatus(**each) for each in given["shards"]]})
    return None


def is_alive(status: RunStatus) -> bool:
    """Whether the run's process still works on it. Asks the operating system; takes no lock."""
    if status.outcome != RUNNING:
        return False
    if status.host != socket.gethostname():
        return datetime.now(UTC) - datetime.fromisoformat(status.updated_at) < _SILENCE
    with suppress(psutil.Error):
        process = psutil.Process(status.pid)
        same = abs(process.create_time() - status.process_started_s) < _SAME_PROCESS_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False


def another_run(shard_dir: Path) -> AlreadyRunning | None:
    """The error of a run while another is running in SHARD_DIR, on this table or another."""
    for path in shard_dir.glob("*_status.json"):
        run = read(path)
        if run is not None and is_alive(run):
            return lock.at_work(shard_dir, (run.pid, run.started_at))
    return None
