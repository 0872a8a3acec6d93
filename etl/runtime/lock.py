"""One command at a time in each SHARD_DIR: a lock that the kernel frees when its holder dies, even by kill -9."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from etl.core.errors import AlreadyRunning, Refused
from etl.runtime import files

_WAIT_FOR_NAME_S = 0.5


@contextmanager
def exclusive(shard_dir: Path, started_at: str) -> Iterator[None]:
    """Holds SHARD_DIR while the block runs.

    Raises AlreadyRunning with the holder's pid and start, without waiting; Refused where SHARD_DIR cannot be written.
    """
    holder, path = files.RUN.path(shard_dir), files.LOCK.path(shard_dir)
    lock = FileLock(path, timeout=0, mode=0o600)
    try:
        lock.acquire()
        files.remove_leftovers(shard_dir)
        files.replace(holder, json.dumps({"pid": os.getpid(), "started_at": started_at}).encode())
    except Timeout:
        if not path.exists():
            raise Refused(f"SHARD_DIR={shard_dir}: no file can be created here; choose another directory") from None
        raise at_work(shard_dir, _run_in(holder)) from None
    except OSError as error:
        lock.release()
        raise Refused(
            f"SHARD_DIR={shard_dir}: cannot be written ({error.strerror}); fix that, or choose another"
        ) from None
    try:
        yield
    finally:
        lock.release()


def at_work(shard_dir: Path, run: tuple[int, str] | None) -> AlreadyRunning:
    """The error while another run, with this pid and start, is at work."""
    name = f"the run with pid {run[0]}, started {run[1]}," if run else "another run"
    return AlreadyRunning(f"SHARD_DIR={shard_dir}: {name} is at work here; wait for it to end")


def _run_in(holder: Path) -> tuple[int, str] | None:
    """The run that holds the lock. It writes this file just after it takes the lock; before, an older run is in it."""
    deadline = time.monotonic() + _WAIT_FOR_NAME_S
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError, KeyError, TypeError):
            run = json.loads(holder.read_text(encoding="utf-8"))
            if psutil.pid_exists(run["pid"]):
                return run["pid"], run["started_at"]
        time.sleep(0.02)
    return None
