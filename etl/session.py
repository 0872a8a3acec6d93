"""What every command has about its work: private files, room for SQLite's temporary ones, errors as lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.errors import EtlError


def complain(error: EtlError) -> int:
    """Prints an error's lines; its exit code."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return error.exit_code


def say(text: str) -> None:
    """Prints a command's result; a reader that has gone away, as `head` does, is no failure."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain as it exits


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
