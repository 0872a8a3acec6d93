"""Who works in a SHARD_DIR: one run at a time, one verification at a time, and never both on the shards.

The kernel frees a lock when its holder dies, even by kill -9. A run holds `.etl.lock` from its start to its end, a
verification `.etl-verify.lock`. Whoever works on the shards also holds `.etl-shards.lock`. A verification looks between
two blocks whether a run holds `.etl.lock`. Then it gives the shards away, and waits until the run has ended.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from etl.core.errors import AlreadyRunning, Refused
from etl.runtime import files, log
from etl.runtime.files import Kind

_WAIT_FOR_NAME_S = 0.5
_LOOK_S = 0.1
"""A verification that looks whether a run is at work holds the run's lock for a moment. So a run tries so long."""
_TICK_S = 0.02
_PATIENCE_S = 300.0
"""A run waits so long for the end of a verification's block, which takes seconds."""


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of command of which only one may be at work in a SHARD_DIR."""

    noun: str
    lock: Kind
    holder: Kind


RUN = Work("run", files.LOCK, files.RUN)
VERIFICATION = Work("verification", files.VERIFY_LOCK, files.VERIFY_RUN)


@contextmanager
def exclusive(shard_dir: Path, started_at: str, work: Work = RUN) -> Iterator[None]:
    """Keeps other commands of this kind out of SHARD_DIR while the block runs.

    Raises AlreadyRunning with the holder's pid and start; Refused where SHARD_DIR cannot be written.
    """
    holder = work.holder.path(shard_dir)
    with _held(shard_dir, work.lock, lambda waited_s: _check_time(shard_dir, work, waited_s, _LOOK_S)):
        try:
            files.replace(holder, json.dumps({"pid": os.getpid(), "started_at": started_at}).encode())
        except OSError as error:
            raise _unwritable(shard_dir, error) from None
        yield


@contextmanager
def shards(shard_dir: Path) -> Iterator[None]:
    """Gives a run the shards while the block runs; a verification gives way at the end of its block.

    Raises AlreadyRunning where it does not.
    """

    def wait(waited_s: float) -> None:
        if not waited_s:
            verification = _named(VERIFICATION, _holder(VERIFICATION.holder.path(shard_dir)))
            log.event("waiting", reason=f"{verification} gives way at the end of its block")
        _check_time(shard_dir, VERIFICATION, waited_s, _PATIENCE_S)

    with _held(shard_dir, files.SHARDS_LOCK, wait):
        files.remove_leftovers(shard_dir)
        yield


class Turn:
    """When a verification may work on the shards."""

    def __init__(self, shard_dir: Path) -> None:
        self._shard_dir = shard_dir
        self._run = FileLock(files.LOCK.path(shard_dir), timeout=0, mode=0o600)

    def is_wanted(self) -> bool:
        """Whether a run is at work, or waits for the shards. Raises Refused where SHARD_DIR is gone."""
        files.check_directory(self._shard_dir)
        try:
            with self._run:
                return False
        except Timeout:
            return True

    @contextmanager
    def taken(self, check_stop: Callable[[], None]) -> Iterator[None]:
        """Waits until no run is at work, then keeps runs waiting while the block runs. `check_stop` may raise."""
        is_said = False
        while self.is_wanted():
            if not is_said:
                is_said = True
                run = _named(RUN, _holder(RUN.holder.path(self._shard_dir)))
                log.event("waiting", reason=f"{run} is at work")
            check_stop()
            time.sleep(_LOOK_S)
        with _held(self._shard_dir, files.SHARDS_LOCK, lambda _: check_stop()):
            yield


def at_work(shard_dir: Path, holder: tuple[int, str] | None, work: Work = RUN) -> AlreadyRunning:
    """The error while another command, with this pid and start, is at work."""
    return AlreadyRunning(f"SHARD_DIR={shard_dir}: {_named(work, holder)} is at work here; wait for it to end")


@contextmanager
def _held(shard_dir: Path, kind: Kind, wait: Callable[[float], None]) -> Iterator[None]:
    """Holds a lock while the block runs. `wait` is called with the seconds waited so far, 0 the first time."""
    path = kind.path(shard_dir)
    lock = FileLock(path, timeout=0, mode=0o600)
    since: float | None = None
    try:
        while True:
            try:
                lock.acquire()
                break
            except Timeout:
                if not path.exists():
                    raise Refused(
                        f"SHARD_DIR={shard_dir}: no file can be created here; choose another directory"
                    ) from None
            now_s = time.monotonic()
            since = now_s if since is None else since
            wait(now_s - since)
            time.sleep(_TICK_S)
    except OSError as error:
        raise _unwritable(shard_dir, error) from None
    try:
        yield
    finally:
        lock.release()


def _unwritable(shard_dir: Path, error: OSError) -> Refused:
    return Refused(f"SHARD_DIR={shard_dir}: cannot be written ({error.strerror}); fix that, or choose another")


def _check_time(shard_dir: Path, work: Work, waited_s: float, most_s: float) -> None:
    if waited_s > most_s:
        raise at_work(shard_dir, _holder(work.holder.path(shard_dir)), work)


def _named(work: Work, holder: tuple[int, str] | None) -> str:
    return f"the {work.noun} with pid {holder[0]}, started {holder[1]}," if holder else f"another {work.noun}"


def _holder(path: Path) -> tuple[int, str] | None:
    """Who holds a lock. It writes this file just after it takes the lock; before, an older one is in it."""
    deadline = time.monotonic() + _WAIT_FOR_NAME_S
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError, KeyError, TypeError):
            run = json.loads(path.read_text(encoding="utf-8"))
            if psutil.pid_exists(run["pid"]):
                return run["pid"], run["started_at"]
        time.sleep(0.02)
    return None
