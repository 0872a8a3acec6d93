"""A run's state file, `SHARD_DIR/<TABLE_NAME>_status.json`: what the last run says of itself, for whoever asks.

It is a courtesy: losing it loses nothing but the time of the last success. The ledgers say what is in the shards.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from etl.runtime import files

RUNNING, INTERRUPTED = "running", "interrupted"
FORMAT_VERSION = 1

_SILENCE = timedelta(seconds=60)
"""A run on another machine that has written nothing for so long counts as dead."""
_SAME_PROCESS_S = 2.0
"""A process's start is reckoned from the clock, which may have been set meanwhile."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """One shard as a run left it, or is leaving it."""

    shard: int
    rows: int
    bytes: int
    write_s: float


@dataclass(frozen=True, slots=True)
class State:
    """What a run says of itself. Times are ISO 8601 in UTC."""

    table: str
    run_id: str
    host: str
    pid: int
    process_started_s: float
    """Seconds since 1970: tells the process from a later one of the same pid."""
    outcome: str
    """running, done, nothing new, stopped, failed or refused."""
    phase: str
    exit_code: int | None
    """None while it runs."""
    error: str | None
    started_at: str
    updated_at: str
    ended_at: str | None
    last_success_at: str | None
    """When a run last ended with exit code 0: this one, or one before it."""
    fraction: float
    rows: int
    windows: int
    bytes: int
    rows_per_s: float
    eta_s: float | None
    rowids_todo: int
    rowids_done: int
    last_rowid: int | None
    """Every row up to here is in the shards, as far as the run knows."""
    windows_in_flight: int
    slowest_shard: int | None
    rss_bytes: int
    seconds: dict[str, float]
    shards: Sequence[ShardState]
    lag_rows: int | None = None
    """Rows of the source above the shards' last one when the run ended; None while it runs, or where unknown."""
    warnings: Sequence[str] = ()
    """What the operator should know although the run went on."""
    format_version: int = FORMAT_VERSION


def path_of(shard_dir: Path, table: str) -> Path:
    """The state file of a table: several may share a directory."""
    return files.STATUS.path(shard_dir, table)


def verification_path(shard_dir: Path, table: str) -> Path:
    """Where the last verification of a table leaves its outcome."""
    return files.VERIFICATION.path(shard_dir, table)


def proved_at(path: Path) -> str | None:
    """When the last verification ended, if it compared all rows and found them equal; None where it did not."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        said = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
        bounds = (said["scope"][name] for name in ("shards", "since", "sample_percent"))
        if said["outcome"] == "equal" and all(bound is None for bound in bounds):
            return str(said["finished_at"])
    return None


def write(path: Path, state: State) -> None:
    """Replaces the file in one step. It is not synced: no promise rests on it."""
    files.replace(path, json.dumps(asdict(state), ensure_ascii=False).encode("utf-8", "surrogateescape"))


def read(path: Path) -> State | None:
    """The state in the file; None where there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        given = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
        if given["format_version"] == FORMAT_VERSION:
            return State(**given | {"shards": [ShardState(**each) for each in given["shards"]]})
    return None


def this_process() -> tuple[str, int, float]:
    """Host, pid and start of the present process, as `is_alive` compares them."""
    return socket.gethostname(), os.getpid(), psutil.Process().create_time()


def is_alive(state: State) -> bool:
    """Whether the process that wrote the state still works on it. Asks the system, and locks nothing."""
    if state.outcome != RUNNING:
        return False
    if state.host != socket.gethostname():
        return datetime.now(UTC) - datetime.fromisoformat(state.updated_at) < _SILENCE
    with suppress(psutil.Error):
        process = psutil.Process(state.pid)
        same = abs(process.create_time() - state.process_started_s) < _SAME_PROCESS_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False
