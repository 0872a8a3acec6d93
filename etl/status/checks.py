"""When each range of rowids was last compared in all shards, `SHARD_DIR/<TABLE_NAME>_checks.json`.

A verification with a budget begins with the ranges whose check is oldest. If the file is lost, only this is forgotten.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from etl.core import ranges
from etl.core.errors import EtlError
from etl.core.model import RowidRange
from etl.runtime import files

NEVER = ""
"""The time of a range without a check: it comes before all others."""


@dataclass(frozen=True, slots=True)
class Check:
    """The last comparison of a range."""

    first_rowid: int
    last_rowid: int
    checked_at: str
    """When it began; ISO 8601, UTC."""
    equal: bool
    deleted: int
    """The rows that a refresh deleted there because they were gone from the source."""

    @property
    def rowids(self) -> RowidRange:
        return RowidRange(self.first_rowid, self.last_rowid)


class Checks:
    """The checks of one table: disjoint, ascending."""

    def __init__(self, shard_dir: Path, table: str) -> None:
        """Reads the file; one that cannot be read has no checks."""
        self._path = files.CHECKS.path(shard_dir, table)
        self._checks: list[Check] = []
        self._read()

    def _read(self) -> None:
        with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
            checks = [_check(**each) for each in json.loads(self._path.read_bytes())["checks"]]
            if all(one.last_rowid < other.first_rowid for one, other in pairwise(checks)):
                self._checks = checks

    def record(self, rowids: ranges.Coverage, checked_at: str, *, equal: bool, deleted: int | None) -> None:
        """Replaces older checks of these rowids, and writes the file. Raises EtlError.

        `deleted` is None where nothing was to be deleted: the rows that the last refresh deleted there still count.
        """
        self._read()  # a refresh that went before this verification may have written it
        rowids = ranges.subtract(
            rowids, ranges.union(each.rowids for each in self._checks if each.checked_at > checked_at)
        )
        kept = []
        total = deleted or 0
        for check in self._checks:
            pieces = ranges.subtract((check.rowids,), rowids)
            if deleted is None and not pieces:
                total += check.deleted
            for number, piece in enumerate(pieces):
                rows = 0 if number else check.deleted
                kept.append(replace(check, first_rowid=piece.first_rowid, last_rowid=piece.last_rowid, deleted=rows))
        for number, piece in enumerate(rowids):
            rows = 0 if number else total
            kept.append(Check(piece.first_rowid, piece.last_rowid, checked_at, equal, rows))
        self._write(sorted(kept, key=lambda check: check.first_rowid))

    def forget_deleted(self) -> None:
        """Counts no row as deleted: the operator has allowed it."""
        self._read()
        self._write([replace(check, deleted=0) for check in self._checks])

    def deleted_outside(self, rowids: ranges.Coverage) -> int:
        """The rows that were deleted in other ranges, in the last round over the table."""
        return sum(check.deleted for check in self._checks if not ranges.covers(rowids, check.rowids))

    def oldest(self, window: RowidRange) -> str:
        """When the part of a window that was not compared for longest was; NEVER if some of it never was."""
        found = self._overlapping(window)
        if ranges.subtract((window,), ranges.union(check.rowids for check in found)):
            return NEVER
        return min(check.checked_at for check in found)

    def proved(self, rowids: ranges.Coverage) -> tuple[float, str | None]:
        """Which share of these rowids was equal when it was last compared, and when the oldest of it was."""
        equal = [check for check in self._checks if check.equal and ranges.intersect((check.rowids,), rowids)]
        covered = ranges.intersect(rowids, ranges.union(check.rowids for check in equal))
        share = sum(piece.span for piece in covered) / max(1, sum(piece.span for piece in rowids))
        return share, min((check.checked_at for check in equal), default=None)

    def _overlapping(self, window: RowidRange) -> Sequence[Check]:
        start = bisect_left(self._checks, window.first_rowid, key=lambda check: check.last_rowid)
        end = bisect_left(self._checks, window.last_rowid + 1, key=lambda check: check.first_rowid)
        return self._checks[start:end]

    def _write(self, checks: list[Check]) -> None:
        self._checks = checks
        content = {"checks": [asdict(check) for check in checks]}
        try:
            files.replace(self._path, json.dumps(content).encode(), durable=True)
        except OSError as error:
            raise EtlError(f"{self._path}: cannot be written ({error.strerror}); fix the cause and run again") from None


def _check(*, first_rowid: int, last_rowid: int, checked_at: str, equal: bool, deleted: int) -> Check:
    """Raises ValueError or TypeError where a value is none that this program writes."""
    RowidRange(first_rowid, last_rowid)
    if deleted < 0 or datetime.fromisoformat(checked_at).tzinfo is None or not isinstance(equal, bool):
        raise ValueError
    return Check(int(first_rowid), int(last_rowid), checked_at, equal, int(deleted))
