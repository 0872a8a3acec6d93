"""The history of verifications, `SHARD_DIR/<TABLE_NAME>_verifications.jsonl`: one line each, the newest last."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from etl.runtime import files
from etl.sources.source_file import SourceState

_KEPT = (
    "started_at",
    "finished_at",
    "outcome",
    "exit_code",
    "full",
    "seconds",
    "scope",
    "source_rows",
    "newer_rows",
    "rows_differing",
    "differences",
    "version",
    "source",
    "shard_files",
)
OPENED = "opened"
_DOUBTS = {
    "different": "a verification with differences",
    OPENED: "a cutover --undo --force",
}
_EQUAL = '"outcome": "equal"'
_FULL = '"full": true'


@dataclass(frozen=True, slots=True, kw_only=True)
class FullProof:
    """A verification that compared all rows of all shards and found them equal. Times are ISO 8601 in UTC."""

    started_at: str
    finished_at: str
    rows: int
    source: SourceState
    """Before the comparison began."""
    shard_files: str | None
    """The state of all shards' files, if nobody, not even a repair, wrote to them meanwhile."""

    def __post_init__(self) -> None:
        """Raises ValueError or TypeError where a value is none that this program writes."""
        moments = (datetime.fromisoformat(self.started_at), datetime.fromisoformat(self.finished_at))
        if self.rows < 0 or any(moment.tzinfo is None for moment in moments):
            raise ValueError


def append(shard_dir: Path, table: str, result: Mapping[str, Any]) -> None:
    """Adds a verification, by its result (`verify.outcome`). Raises OSError."""
    kept = {name: result.get(name) for name in _KEPT}
    line = json.dumps(kept, ensure_ascii=False).encode("utf-8", "surrogateescape")
    path = files.VERIFICATIONS.path(shard_dir, table)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        end = os.fstat(descriptor).st_size
        if end < len(files.VERIFICATIONS.beginning):  # a power cut may leave a part of a line, …
            os.ftruncate(descriptor, 0)
            end = 0
        is_torn = end and os.pread(descriptor, 1, end - 1) != b"\n"
        left = (b"\n" if is_torn else b"") + line + b"\n"
        while left:  # … and a full disk
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last(shard_dir: Path, table: str) -> dict[str, Any] | None:
    """The line of the last verification; None if there is none that can be read."""
    given = (_parsed(line) for line in _newest_first(shard_dir, table))
    return next((each for each in given if each and each.get("outcome") != OPENED), None)


def opened_again(shard_dir: Path, table: str, moment: str) -> None:
    """Records that sealed shards, which may have rows of applications, are open for runs again. Raises OSError."""
    append(shard_dir, table, {"started_at": moment, "finished_at": moment, "outcome": OPENED, "full": False})


def doubt(shard_dir: Path, table: str) -> str | None:
    """What was found or done after the last full proof that puts it in doubt; None if nothing was."""
    for line in _newest_first(shard_dir, table):
        given = _parsed(line) or {}
        if given.get("outcome") == "equal" and given.get("full"):
            return None
        if given.get("outcome") in _DOUBTS:
            return f"{_DOUBTS[given['outcome']]}, {given.get('finished_at')}"
    return None


def last_full_proof(shard_dir: Path, table: str) -> FullProof | None:
    """The last verification that proved everything; None if there is none."""
    for line in _newest_first(shard_dir, table):
        if _EQUAL in line and _FULL in line and (given := _parsed(line)):
            with suppress(TypeError, KeyError, ValueError):
                return FullProof(
                    started_at=given["started_at"],
                    finished_at=given["finished_at"],
                    rows=given["source_rows"],
                    source=SourceState(**given["source"]),
                    shard_files=given.get("shard_files"),
                )
    return None


def figures(shard_dir: Path, table: str) -> dict[str, Any]:
    """What a status file says of verifications: fields of `RunStatus`."""
    proof, line = last_full_proof(shard_dir, table), last(shard_dir, table) or {}
    counts = {
        name: count if isinstance(count := line.get(name), int) else None for name in ("exit_code", "rows_differing")
    }
    ended = None
    with suppress(TypeError, KeyError, ValueError):
        ended = line["finished_at"] if datetime.fromisoformat(line["finished_at"]).tzinfo else None
    return {
        "last_full_proof_at": proof.finished_at if proof else None,
        "last_verification_at": ended,
        "last_verification_exit_code": counts["exit_code"],
        "rows_differing": counts["rows_differing"],
    }


def _newest_first(shard_dir: Path, table: str) -> Iterator[str]:
    with suppress(OSError):
        content = files.VERIFICATIONS.path(shard_dir, table).read_bytes()
        yield from reversed(content.decode("utf-8", "surrogateescape").split("\n"))


def _parsed(line: str) -> dict[str, Any] | None:
    """A line's values; None of a torn line."""
    with suppress(ValueError):
        given = json.loads(line)
        if isinstance(given, dict):
            return given
    return None
