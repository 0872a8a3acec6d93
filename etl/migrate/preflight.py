"""The checks of a run before it writes: writable files, no triggers, enough open files, enough disk."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path

from etl.core.errors import Refused
from etl.migrate.disk_estimate import DiskEstimate
from etl.runtime import limits, log
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
