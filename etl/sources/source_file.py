"""The source's file: what shows, without SQLite, that it has not changed since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_HEADER_BYTES = 28
_VERSIONS = slice(18, 20)
_COUNTER = slice(24, 28)
_WAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """The file at one moment. If all is equal later, and the counter is known, no program has written to it."""

    path: str
    size: int
    mtime_ns: int
    change_counter: int | None
    """SQLite adds 1 with each transaction (https://sqlite.org/fileformat.html, section 1.3.7); None in WAL mode."""
    wal_mtime_ns: int | None = None
    """Of the -wal file, to which WAL mode writes first; None where there is none, or an empty one."""


def state(path: Path) -> SourceState:
    """Not while this process has the file open: a plain close drops SQLite's locks (`etl.sqlite.stdlib`)."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    found = path.stat()
    wal = path.with_name(f"{path.name}-wal")
    is_wal = _WAL in header[_VERSIONS] or wal.exists()
    return SourceState(
        path=str(path.resolve()),
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        change_counter=None if is_wal else int.from_bytes(header[_COUNTER], "big"),
        wal_mtime_ns=wal.stat().st_mtime_ns if wal.exists() and wal.stat().st_size else None,
    )
