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


def state(path: Path) -> SourceState:
    """Not while this process has the file open: a plain close drops SQLite's locks (`etl.sqlite.stdlib`)."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    found = path.stat()
    is_wal = _WAL in header[_VERSIONS] or path.with_name(f"{path.name}-wal").exists()
    counter = None if is_wal else int.from_bytes(header[_COUNTER], "big")
    return SourceState(path=str(path.resolve()), size=found.st_size, mtime_ns=found.st_mtime_ns, change_counter=counter)
