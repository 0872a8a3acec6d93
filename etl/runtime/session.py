"""The session of a command that writes into SHARD_DIR: lock, log, run id, and one line for any error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from etl.core.errors import EtlError
from etl.runtime import limits, lock, log, memory
from etl.runtime.lock import Work
from etl.runtime.settings import Settings


@dataclass
class Session:
    """What a command knows of its session, and what it sets before it ends."""

    run_id: str
    started: datetime
    exit_code: int = 0
    totals: dict[str, Any] = field(default_factory=dict)
    """More fields of the last log line, `end`."""
    on_error: Callable[[EtlError], None] = lambda _: None
    """Called with the error that ends the session, before the log is closed."""


@contextmanager
def session(
    settings: Settings, *, log_name: str = "migration", speaks: bool = True, work: Work = lock.RUN
) -> Iterator[Session]:
    """Runs the block with a lock on SHARD_DIR, which must exist, and a log; old logs are deleted.

    A run has the shards then; a verification takes its turns. The console gets only warnings unless it `speaks`.

    Every error of the block leaves as an EtlError; an unexpected one names the log that has its place. Raises
    AlreadyRunning if another command has the lock, Refused if the lock or the log cannot be written.
    """
    started = log.now()
    memory.return_freed_buffers(limits.RETURNED_BUFFER_BYTES)
    with (
        _temporary_files_in(settings.SHARD_DIR),
        lock.exclusive(settings.SHARD_DIR, started.isoformat(timespec="seconds"), work),
        log.to_file(settings.LOG_DIR, started, name=log_name, speaks=speaks) as log_path,
    ):
        log.prune(settings.LOG_DIR, started, settings.LOG_RETENTION_DAYS)
        current = Session(f"{started:%Y%m%dT%H%M%S.%fZ}-{os.getpid()}", started)
        try:
            effective = settings.model_dump(
                mode="json", exclude={"ON_SUCCESS", "ON_FAILURE"}
            )  # they may have a password
            log.event("start", run_id=current.run_id, log=str(log_path), settings=effective)
            with lock.shards(settings.SHARD_DIR) if work is lock.RUN else nullcontext():
                yield current
            log.event("end", exit_code=current.exit_code, **current.totals)
        except BaseException as error:  # noqa: BLE001 - a panic in Rust is no Exception; it is raised again as one line
            known = error
            if not isinstance(known, EtlError):
                known = EtlError(f"unexpected {type(error).__name__}; {log_path} says where; run again to resume")
            current.on_error(known)
            log.failure(error)
            log.event("end", exit_code=known.exit_code)
            raise known from None


@contextmanager
def private_files() -> Iterator[None]:
    """Makes every file that the block creates its owner's alone: mode 0600, directories 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _temporary_files_in(shard_dir: Path) -> Iterator[None]:
    """Puts SQLite's temporary files beside the shards: those of an index build are as big as the index."""
    before = os.environ.get("SQLITE_TMPDIR")
    os.environ["SQLITE_TMPDIR"] = before or str(shard_dir.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ["SQLITE_TMPDIR"]
