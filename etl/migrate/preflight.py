"""The checks before a run writes: files, directories, triggers, open files, disk. A plan makes them too."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from etl.core.errors import Refused
from etl.migrate.disk_estimate import DiskEstimate
from etl.runtime import limits, log
from etl.runtime.settings import Settings
from etl.shards.checkpoint import Checkpoint
from etl.shards.shard import Shard
from etl.status.units import size

_MIN_OPEN_FILES = 128


def check(
    shards: Sequence[Shard],
    found: Checkpoint,
    *,
    directory: Path,
    writers: int,
    needed: DiskEstimate,
    force: bool,
) -> None:
    """Raises Refused if the run could not end well; with `force` too little disk is only a warning."""
    for path in (directory, *(shard.path for shard in shards)):
        if path.exists() and not os.access(path, os.W_OK):
            raise Refused(f"{path}: expected a writable file or directory, found it read-only; make it writable")
    for shard, state in zip(shards, found.found, strict=True):
        shard.refuse_triggers(state.triggers if state else ())
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most_writers = min(writers, len(shards))
    if soft != resource.RLIM_INFINITY and (soft < _MIN_OPEN_FILES or most_writers > limits.max_open_shards()):
        raise Refused(
            f"open files: expected a limit of at least {_MIN_OPEN_FILES}, and enough for {most_writers} writers, found "
            f"{soft}; raise it (ulimit -n), or lower WRITERS"
        )
    free = shutil.disk_usage(directory).free
    log.event("room", "DEBUG", rows=needed.rows, indexes=needed.indexes, meanwhile=needed.meanwhile, free=free)
    if needed.bytes > free:
        short = f"expected {size(needed.bytes)} of free disk for what is left to do, found {size(free)}"
        if not force:
            raise Refused(
                f"SHARD_DIR={directory}: {short}; free some, or choose another disk; --force tries all the same"
            )
        log.event("forced", "WARNING", although=short)


def check_is_utf8(name: str, path: Path) -> None:
    """SQLite and its driver take no other path."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise Refused(f"{name}={path}: expected a path in UTF-8; rename it, or choose another") from None


def directories(settings: Settings) -> Iterator[Refused]:
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
