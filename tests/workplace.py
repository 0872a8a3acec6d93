"""A directory for one migration, which runs in this process or in a process of its own."""

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from etl.migrate.command import run
from tests.oracle import compare

REPOSITORY = Path(__file__).parent.parent
PATIENCE_SECONDS = 120.0
Setting: TypeAlias = str | int | Path
Process: TypeAlias = subprocess.Popen[str]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Snapshot(NamedTuple):
    """What must not change of a file: its SHA-256 and its mtime."""

    digest: str
    mtime_ns: int


@dataclass(frozen=True)
class Workplace:
    root: Path

    @property
    def source(self) -> Path:
        return self.root / "source.db"

    @property
    def shards(self) -> Path:
        return self.root / "shards"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def environ(self, **changes: Setting) -> dict[str, str]:
        """Every setting a run needs, small numbers by default."""
        settings: dict[str, Setting] = {
            "SOURCE_DB": self.source,
            "TABLE_NAME": "clients",
            "SHARD_DIR": self.shards,
            "LOG_DIR": self.logs,
            "NUM_SHARDS": 3,
            "RESERVED_SHARD": 3,
            "BATCH_SIZE": 50,
            "READERS": 2,
            "WRITERS": 2,
            "SHARD_KEY": "k",
            "INDEX_COLUMNS": "",
        }
        return {name: str(value) for name, value in (settings | changes).items()}

    def script(self, *statements: str) -> None:
        """Make or change the source."""
        with closing(sqlite3.connect(self.source)) as database, database:
            for statement in statements:
                database.execute(statement)

    def populate(self, rows: int, *, first: int = 1, seed: int = 1) -> None:
        """Append that many invented clients, a tenth of them without a key."""
        dice = random.Random(seed)
        keys = (None if dice.random() < 0.1 else f"+7000{dice.randrange(10**7):07d}" for _ in range(rows))
        with closing(sqlite3.connect(self.source)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS clients (k TEXT, INN TEXT, note TEXT, amount REAL)")
            database.executemany(
                "INSERT INTO clients (rowid, k, INN, note, amount) VALUES (?, ?, ?, ?, ?)",
                (
                    (rowid, key, str(rowid % 977), "x" * (rowid % 50), rowid / 3)
                    for rowid, key in enumerate(keys, start=first)
                ),
            )

    def start(self, environ: Mapping[str, str], *prefix: str) -> Process:
        """Start the command in a process of its own, in a directory without .env, behind a prefix such as sh -c."""
        empty = self.root / "empty"
        empty.mkdir(exist_ok=True)
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "etl.migrate", "-v"],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, environ: Mapping[str, str], *prefix: str) -> Outcome:
        with self.start(environ, *prefix) as process:
            return finished(process)


def migrate(environ: Mapping[str, str]) -> int:
    """A whole migration in this process."""
    return run(environ)


def finished(process: Process) -> Outcome:
    try:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Outcome(process.returncode, out, err)


def differences(environ: Mapping[str, str]) -> list[str]:
    """What the oracle finds wrong in the shards of these settings."""
    return compare(
        environ["SOURCE_DB"],
        environ["SHARD_DIR"],
        table=environ["TABLE_NAME"],
        key=environ["SHARD_KEY"],
        num_shards=int(environ["NUM_SHARDS"]),
        reserved_shard=int(environ["RESERVED_SHARD"]),
    )


def snapshot(paths: Iterable[Path]) -> dict[Path, Snapshot]:
    files = sorted(path for path in paths if path.is_file())
    return {path: Snapshot(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def error_line(err: str) -> str:
    """The last line of a failed run's stderr; log lines may be above it, a traceback may not."""
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def shard_files(environ: Mapping[str, str]) -> list[Path]:
    return sorted(Path(environ["SHARD_DIR"]).glob("*.db")) if Path(environ["SHARD_DIR"]).is_dir() else []


def log_lines(place: Workplace) -> list[dict[str, Any]]:
    """All lines of all logs, the oldest log first."""
    paths = sorted(place.logs.glob("logs/*.log"))
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def log_events(place: Workplace, name: str) -> list[dict[str, Any]]:
    return [line for line in log_lines(place) if line["event"] == name]


def await_line(process: Process, text: str, *, of_stderr: bool = False) -> None:
    """Return once the process has written a line with the text."""
    stream = process.stderr if of_stderr else process.stdout
    assert stream is not None
    assert any(text in line for line in stream), f"ended without {text!r}"


def await_file(process: Process, directory: Path, pattern: str) -> None:
    """Return once a file matches. Looks at names only: to open a shard could lock it."""
    _await(process, lambda: any(directory.glob(pattern)))


def await_bytes(process: Process, environ: Mapping[str, str], size: int) -> None:
    """Return once this run logs (its settings are read) and the shards have grown to that size."""
    logs, shards = Path(environ["LOG_DIR"]), Path(environ["SHARD_DIR"])
    _await(process, lambda: any(logs.glob("logs/*.log")))
    _await(process, lambda: sum(path.stat().st_size for path in shards.glob("*_shard_*.db")) >= size)


def _await(process: Process, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode} too early: {finished(process).err}"
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s"
        time.sleep(0.003)
