"""Reasons why a run would be refused: directories, another run. Read-only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from etl.core.errors import AlreadyRunning, Refused
from etl.runtime import lock
from etl.runtime.settings import Settings
from etl.status import status_file


def of_directories(settings: Settings) -> Iterator[Refused]:
    """A refusal for each directory that a run could not write or create."""
    named = {"SHARD_DIR": settings.SHARD_DIR, "LOG_DIR": settings.LOG_DIR / "logs"}
    if settings.METRICS_FILE is not None:
        named["METRICS_FILE"] = settings.METRICS_FILE.parent
    for name, path in named.items():
        there = nearest(path)
        if not there.is_dir():
            yield Refused(f"{name}={path}: expected a directory, found {there} in its way; choose another")
        elif not os.access(there, os.W_OK | os.X_OK):
            yield Refused(f"{name}={path}: {there} cannot be written; make it writable, or choose another")
        elif name == "METRICS_FILE" and there != path:
            yield Refused(f"{name}={settings.METRICS_FILE}: expected its directory to exist; create it")


def nearest(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    return next(there for there in (path, *path.absolute().parents) if os.path.lexists(there))


def of_a_run(settings: Settings) -> AlreadyRunning | None:
    """The error of a run while another is running in SHARD_DIR, on this table or another."""
    for path in settings.SHARD_DIR.glob("*_status.json"):
        run = status_file.read(path)
        if run is not None and status_file.is_alive(run):
            return lock.at_work(settings.SHARD_DIR, (run.pid, run.started_at))
    return None
