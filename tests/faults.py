"""Faults of processes, files and disks.

`python -m tests.faults NAME N EFFECT` migrates with the environment's settings; at the Nth pass of the point NAME the
effect (kill, hang_up, hang, fail or nothing) happens, once. The limits are tiny there, so that a few thousand rows make
many read tasks, many commits, many files of the manifest, and both large and small shards to index.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import polars as pl
import psutil
import pytest

from etl.migrate import command as migrate
from etl.shards import compaction, ledger
from etl.shards.manifest import Manifest
from etl.shards.replace import Replacement
from etl.shards.shard import Shard
from etl.shards.transaction import Transaction
from etl.sources.reader import Source
from etl.sqlite.adbc import Connection
from tests.workplace import REPOSITORY, Outcome, Process, finished

MARKER = "Zxq7-of-a-fault"
HANG_SECONDS = 60


@dataclass(frozen=True)
class Point:
    """The calls of a function; only those from `caller`, or with a text that begins with `says`, if they are given."""

    owner: type | ModuleType
    function: str
    says: str = ""
    caller: str = ""
    after: bool = False

    def struck(self, n: int, effect: Callable[[], None]) -> Callable[..., Any]:
        """The function, with the effect before or after its Nth pass."""
        real, passes = getattr(self.owner, self.function), count(1)

        @wraps(real)
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            said = " ".join(argument for argument in args[1:] if isinstance(argument, str))
            caller = traceback.extract_stack(limit=2)[0].name
            hit = said.startswith(self.says) and caller == (self.caller or caller) and next(passes) == n
            if hit and not self.after:
                effect()
            result = real(*args, **kwargs)
            if hit and self.after:
                effect()
            return result

        return stand_in


POINTS = {
    "before a shard has its table": Point(Connection, "execute", says="CREATE TABLE", caller="begin"),
    "before a shard has its identity": Point(Connection, "executemany", says=ledger.INSERT_IDENTITY),
    "after a shard is made, before its first rows": Point(Shard, "begin", after=True),
    "before a read": Point(Source, "read"),
    "after a read": Point(Source, "read", after=True),
    "mid-batch": Point(Transaction, "insert", after=True),
    "before a ledger line": Point(Connection, "executemany", says=ledger.INSERT_WINDOW),
    "before a commit": Point(Connection, "execute", says="COMMIT", caller="commit"),
    "between two shards' commits": Point(Connection, "execute", says="COMMIT", caller="commit", after=True),
    "between two shards' discards": Point(Shard, "discard", after=True),
    "before a manifest file": Point(Manifest, "_write"),
    "before a manifest file's bytes": Point(pl.DataFrame, "write_parquet", caller="_write"),
    "before a manifest file's name": Point(os, "fsync", caller="replace", after=True),
    "after a manifest file": Point(Manifest, "_write", after=True),
    "between the compact manifest and its parts": Point(Manifest, "_write", caller="compact", after=True),
    "among the compacted parts": Point(Path, "unlink", caller="compact"),
    "between the repaired manifest and the old one": Point(Manifest, "_write", caller="_supersede", after=True),
    "among the repaired parts": Point(Path, "unlink", caller="_supersede"),
    "before joined lines are committed": Point(Connection, "execute", says="COMMIT", caller="_join"),
    "between two shards' joins": Point(compaction, "_join", after=True),
    "before an index": Point(Connection, "execute", says="CREATE INDEX"),
    "between two indexes of a shard": Point(Connection, "execute", says="CREATE INDEX", after=True),
    "before a small shard's indexes are committed": Point(Connection, "execute", says="COMMIT", caller="finish"),
    "before the planner's statistics": Point(Connection, "pragma", says="optimize"),
    "before a shard turns to WAL": Point(Connection, "pragma", says="journal_mode WAL"),
    "after a shard has turned to WAL": Point(Connection, "pragma", says="journal_mode WAL", after=True),
}

EVOLUTION = {
    "before new columns are committed": Point(Connection, "execute", says="COMMIT", caller="add_columns"),
    "between two shards' new columns": Point(Shard, "add_columns", after=True),
    "before the values of new columns": Point(Replacement, "replace"),
    "before values are committed": Point(Connection, "execute", says="COMMIT", caller="_write"),
    "between two shards' values": Point(Connection, "execute", says="COMMIT", caller="_write", after=True),
    "before a shard is evolved": Point(Connection, "execute", says="COMMIT", caller="fill_columns"),
    "between two evolved shards": Point(Shard, "fill_columns", after=True),
}
"""Points of a run with --evolve."""


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


def hang() -> None:
    print("hanging", flush=True)
    time.sleep(HANG_SECONDS)


def fail() -> None:
    raise RuntimeError(MARKER)


def nothing() -> None:
    """For a run that only has the tiny limits."""


EFFECTS = {effect.__name__: effect for effect in (kill, hang_up, hang, fail, nothing)}


def start(environ: Mapping[str, str], name: str, n: int, effect: Callable[[], None] = kill) -> Process:
    """A migration in a process of its own, with a fault."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults", name, str(n), effect.__name__],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def struck(environ: Mapping[str, str], name: str, n: int, effect: Callable[[], None] = kill) -> Outcome:
    """The outcome of a migration in a process of its own, with a fault."""
    with start(environ, name, n, effect) as process:
        return finished(process)


FORCED = ("sh", "-c", 'exec "$@" --force', "sh")


def flipped(data: bytes, dice: random.Random, *, times: int = 1) -> bytes:
    """The bytes with so many bits flipped at random places."""
    damaged = bytearray(data)
    for _ in range(times):
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def _privileged(*command: str | Path) -> None:
    """Runs what needs root; skips the test if root may not either, as in a container without the capability."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"apt-get install e2fsprogs mount: no {command[0]}")
    tried = subprocess.run(command, check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"{command[0]} needs root with CAP_SYS_ADMIN and CAP_LINUX_IMMUTABLE: {tried.stderr.strip()}")


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """Makes the file read-only even for root, for whom its mode does not count."""
    if os.geteuid():
        path.chmod(0o400)
        yield
        return
    _privileged("chattr", "+i", path)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


@dataclass(frozen=True)
class Disk:
    """A small file system of its own."""

    path: Path

    def resize(self, size_kib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_kib}k", self.path], check=True)

    def fill(self, *, but_kib: int = 0) -> Path:
        """Fills the disk, except for so much."""
        filler = self.path / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        os.truncate(filler, filler.stat().st_size - but_kib * 1024)
        return filler


@contextmanager
def disk(path: Path, *, size_kib: int) -> Iterator[Disk]:
    """A disk mounted at the path while the block runs."""
    path.mkdir(parents=True)
    _privileged("mount", "-t", "tmpfs", "-o", f"size={size_kib}k,mode=700", "tmpfs", path)
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def states(process: Process, directory: Path, copies: Path, dice: random.Random, *, most: int) -> int:
    """Copies the directory at random moments until the process ends, each time while it is stopped; how many."""
    taken = 0
    while process.poll() is None and taken < most:
        time.sleep(dice.uniform(0.01, 0.12))
        process.send_signal(signal.SIGSTOP)
        try:
            if is_stopped(process) and directory.is_dir():
                shutil.copytree(directory, copies / f"{taken:03d}")
                taken += 1
        finally:
            process.send_signal(signal.SIGCONT)
    return taken


def is_stopped(process: Process) -> bool:
    """Waits until the stop signal has reached every thread; False if the process has ended."""
    with suppress(psutil.NoSuchProcess):
        while (state := psutil.Process(process.pid).status()) != psutil.STATUS_ZOMBIE:
            if state == psutil.STATUS_STOPPED:
                return True
            time.sleep(0.001)
    return False


def main(name: str, n: str, effect: str) -> int:
    point = (POINTS | EVOLUTION)[name.removesuffix(", joined")]
    most_lines = 10 if "join" in name else compaction.MOST_LINES
    with (
        patch.multiple("etl.shards.compaction", MOST_LINES=most_lines, JOINED_LINES=4, NEWEST_LINES=2),
        patch.multiple(
            "etl.runtime.limits", READ_TASK_ROWS=100, ROWS_PER_SHARD=1, TRANSACTION_ROWS=100, INDEXED_AT_ONCE_ROWS=300
        ),
        patch.multiple("etl.migrate.commit_tracker", _FLUSH_WINDOWS=4),
        patch.multiple("etl.migrate.evolution", _ROWS_AT_ONCE=50),
        patch.multiple("etl.shards.comparison", _BATCH_ROWS=40),
        patch.object(point.owner, point.function, point.struck(int(n), EFFECTS[effect])),
    ):
        return migrate.run(os.environ, evolve=name in EVOLUTION)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
