"""The log of a run: flat JSON lines in a file, readable lines on the console. It never has a cell's value."""

from __future__ import annotations

import gc
import json
import re
import stat
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import psutil
import pyarrow as pa
from loguru import logger

from etl.core.errors import EtlError, Refused
from etl.runtime.console import fitted

if TYPE_CHECKING:
    from loguru import Message

_CONSOLE_EVENTS = {  # and every warning
    "plan",
    "reindex",
    "manifest",
    "partial",
    "progress",
    "loaded",
    "finished",
    "repaired",
    "waiting",
}

_SAID_ONCE = {"plan", "reindex", "partial"}
"""A run that replaces old rows, which keep new ones out, begins again and again; the console gets these once."""

_FILE_NAME = re.compile(r"(?:migration|verify)_\d{8}T\d{6}\.\d{6}Z\.log")

logger.disable("etl")  # without an open log, as in --plan or a notebook, events are dropped


def now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


@contextmanager
def to_file(log_dir: Path, started: datetime, *, name: str = "migration", speaks: bool = True) -> Iterator[Path]:
    """Sends events to `log_dir/logs/<name>_<start>.log` and the console while the block runs; yields the path.

    The console gets only warnings unless it `speaks`.
    """
    path = log_dir / "logs" / f"{name}_{started:%Y%m%dT%H%M%S.%fZ}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("x", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise Refused(
            f"{path}: the log cannot be written ({error.strerror}); set LOG_DIR to a writable directory"
        ) from None
    logger.remove()
    logger.enable("etl")
    sinks = [logger.add(lambda message: _write_json(file, message), level="DEBUG", format="{message}", catch=False)]
    level = "INFO" if speaks else "WARNING"
    said: set[str] = set()
    sinks.append(
        logger.add(lambda message: _write_console(message, said), level=level, format="{message}", catch=False)
    )
    try:
        yield path
    finally:
        for sink in sinks:
            logger.remove(sink)
        logger.disable("etl")
        with suppress(OSError):  # the write that found the disk full has reported it
            file.close()


def prune(log_dir: Path, started: datetime, days: int | None) -> None:
    """Deletes the logs to which nothing was written for so many days; a file or link of another name stays."""
    if days is None:
        return
    for path in (log_dir / "logs").glob("*.log"):
        with suppress(OSError):  # another run may delete it now; an old log is no reason to end a run
            found = path.lstat()
            is_old = found.st_mtime < started.timestamp() - days * 86_400
            if is_old and stat.S_ISREG(found.st_mode) and _FILE_NAME.fullmatch(path.name):
                path.unlink()


def event(name: str, level: str = "INFO", **fields: Any) -> None:
    """Logs one event with its fields."""
    logger.bind(fields=fields).log(level, name)


def failure(error: BaseException) -> None:
    """Logs an error that ends the run: its line and its place; other libraries' texts may have cell values, so none."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    line = str(error) if isinstance(error, EtlError) else type(error).__name__
    event("error", "ERROR", error=line, traceback=frames)


def collect_garbage() -> None:
    """Collects Python's garbage, releases Arrow's unused memory, and logs memory."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    memory("collected")


def memory(name: str = "memory") -> None:
    """Logs the process's resident memory and threads."""
    process = psutil.Process()
    with suppress(psutil.Error, OSError):  # for example, too many open files: no reason to end a run
        event(name, rss_mb=round(process.memory_info().rss / 1e6, 1), threads=process.num_threads())


def _write_json(file: TextIO, message: Message) -> None:
    record = message.record
    line = {
        "time": record["time"].astimezone(UTC).isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "event": record["message"],
        **record["extra"]["fields"],
    }
    try:
        file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    except OSError as error:
        raise EtlError(f"{file.name}: the log cannot be written ({error.strerror}); fix that and run again") from None


def _write_console(message: Message, said: set[str]) -> None:
    record = message.record
    if record["message"] in said & _SAID_ONCE:
        return
    said.add(record["message"])
    if record["message"] not in _CONSOLE_EVENTS and record["level"].name != "WARNING":
        return  # the command prints an error itself, as its last line
    text = "  ".join(f"{name}={value}" for name, value in record["extra"]["fields"].items())
    with suppress(OSError):  # a closed console is no reason to end a run
        print(fitted(f"{record['time']:%H:%M:%S}  {record['message']:<10} {text}", sys.stderr), file=sys.stderr)
