"""What every command has about its work: private files, room for SQLite's temporary ones, errors as lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from etl.core.errors import EtlError


def print_error(error: EtlError) -> int:
    """Prints an error's lines; its exit code."""
    with tolerate_closed(sys.stderr):
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
    return error.exit_code


def as_known(error: BaseException, log_path: Path) -> EtlError:
    """The error, or one line for an error that nobody foresaw."""
    if isinstance(error, EtlError):
        return error
    return EtlError(f"{type(error).__name__}, unforeseen; its place is in {log_path}; run again to resume")


def print_result(text: str) -> None:
    """Prints a command's result."""
    with tolerate_closed(sys.stdout):
        print(text)


@contextmanager
def tolerate_closed(stream: TextIO) -> Iterator[None]:
    """Nobody may listen any more (`| head`), or the file there be on a full disk: the work and its code stand.

    What the stream has kept back would fail again when Python ends, so it then goes nowhere.
    """
    try:
        yield
        stream.flush()
    except OSError:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def replace_closed_streams() -> None:
    """A process started without standard streams would get shards for them: the next file opened takes the number."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r+", encoding="utf-8"))  # noqa: SIM115 - for the process's life


@contextmanager
def temporary_files_in(shard_dir: Path) -> Iterator[None]:
    """SQLite's index builds spill to files as big as the index: beside the shards there is room for them."""
    before = os.environ.get("SQLITE_TMPDIR")
    os.environ["SQLITE_TMPDIR"] = before or str(shard_dir.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ["SQLITE_TMPDIR"]


@contextmanager
def private_files() -> Iterator[None]:
    """Every file made meanwhile is its owner's alone: mode 0600, directories 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
