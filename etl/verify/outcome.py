"""What the command reports: lines for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from etl.core.errors import EtlError, Refused
from etl.core.model import RowidRange
from etl.runtime import files, log
from etl.runtime.settings import Settings
from etl.runtime.version import VERSION
from etl.shards import seal
from etl.sources.source_file import SourceState
from etl.sqlite.adbc import sqlite_version
from etl.status import status_file, verifications
from etl.status.units import counted
from etl.verify.differences import Result
from etl.verify.halt import Cause
from etl.verify.scope import Scope

DIFFERENT = 4
"""The exit code where source and shards differ."""
_REBUILD = "move away each file named above that is there, run migrate"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a verification, and of a repair."""

    first: Result
    last: Result
    """The first result, or the result of the comparison after the repair."""
    repaired: frozenset[RowidRange] | None
    """The windows concerned; None where nothing was to be repaired."""
    scope: Scope
    seconds: float
    started_at: datetime
    source: SourceState
    """Before the comparison began."""
    share: float = 1.0
    """How many of the rows in the scope were compared."""
    cause: Cause | None = None
    """Why it ended before all was compared and checked."""
    are_files_checked: bool = False
    """Whether the check of the files came to its end."""
    warnings: tuple[str, ...] = ()
    """Doubts about the comparison that are no differences."""
    sealed_at: str | None = None
    """When the cut-over was: since then applications may write to the shards."""
    is_source_written: bool = False
    """Whether a program wrote to the source during a refresh: rows may have changed again after they were replaced."""

    @property
    def exit_code(self) -> int:
        """Of a verification that no signal has stopped."""
        if not self.last.differences.is_equal and not self.is_changing:
            return DIFFERENT
        return Refused.exit_code if self.last.is_unfinished else 0

    @property
    def replaced_rows(self) -> int:
        """The rows that differed and, after the repair, do so no more."""
        return max(0, self.first.differences.count - self.last.differences.count)

    @property
    def is_stopped(self) -> bool:
        """Whether a signal, or --stop-after, ended it."""
        return self.cause is Cause.STOP

    @property
    def is_changing(self) -> bool:
        """Whether all that differs after a refresh may be rows that changed again meanwhile."""
        left = self.last.differences
        only_rows = not left.is_equal and not left.notes and not left.foreign_rows
        return self.is_source_written and only_rows

    @property
    def name(self) -> str:
        """equal, different, changing, unfinished or stopped."""
        if self.is_changing:
            return "changing"
        if not self.last.differences.is_equal:
            return "different"
        if self.last.is_unfinished:
            return "unfinished"
        return "stopped" if self.is_stopped else "equal"

    @property
    def is_news(self) -> bool:
        """Whether there is more to say than that source and shards are equal."""
        return bool(self.exit_code or self.repaired is not None or self.warnings or self.is_stopped)

    @property
    def file_check(self) -> str | None:
        """The check that each file passed or failed, and SQLite's version; None unless it was made."""
        name = "quick_check" if self.scope.quick else "integrity_check"
        return f"{name} of SQLite {sqlite_version()}" if self.are_files_checked else None

    def as_json(self) -> dict[str, Any]:
        """docs/operations.md explains the fields."""
        first, scope = self.first, self.scope
        found = first.differences
        return {
            "outcome": self.name,
            "exit_code": self.exit_code,
            "full": scope.is_everything and scope.shards is None and self.cause is None and not self.last.is_unfinished,
            "started_at": self.started_at.isoformat(timespec="milliseconds"),
            "finished_at": log.now().isoformat(timespec="milliseconds"),
            "seconds": round(self.seconds, 1),
            "source_rows": first.source_rows,
            "shard_rows": first.shard_rows,
            "shards": first.shards,
            "windows": len(first.compared),
            "compared_percent": self._percent,
            "newer_rows": first.newer_rows,
            "scope": {
                "quick": scope.quick,
                "shards": sorted(scope.shards) if scope.shards is not None else None,
                "since": scope.since,
                "sample_percent": scope.percent,
                "budget_s": scope.budget_s,
            },
            "file_check": self.file_check,
            "warnings": list(self.warnings),
            "sealed_at": self.sealed_at,
            "version": VERSION,
            "source": asdict(self.source),
            "rows_differing": self.last.differences.count,
            "differences": self.last.differences.counts(),
            "foreign_rows": self.last.differences.foreign_rows,
            **self.last.differences.as_json(),
            "repair": None
            if self.repaired is None
            else {"windows": len(self.repaired), "found": found.counts(), **found.as_json()},
        }

    @property
    def _percent(self) -> float:
        """Rounded down, so that only what is complete is at 100. What an unfinished load has not loaded counts, too."""
        first = self.first
        loaded = first.source_rows / max(1, first.source_rows + first.newer_rows) if self.last.is_unfinished else 1.0
        return math.floor(self.share * loaded * 1000) / 10

    def lines(self, *, stopped_by: str = "") -> list[str]:
        """With the name of the signal, if one has stopped it."""
        first, last = self.first, self.last
        lines = []
        if self.is_stopped:
            equal = "equal so far" if first.compared else "nothing known yet"
            so_far = "but the next ones may differ" if first.is_suspect else equal
            so_far = so_far if last.differences.is_equal else "and rows differ"
            files = "files are not checked; " if self.scope.checks_files and not self.are_files_checked else ""
            lines.append(
                f"stopped by {stopped_by}: {self._percent} % of rows compared, {so_far}; {files}run again to go on"
            )
        if self.repaired is not None:
            lines += ["found:", *(f"  {line}" for line in first.differences.lines())]
            lines += [f"repaired: {counted(len(self.repaired), 'window')}, compared again"]
        rate = first.source_rows / max(self.seconds, 1e-9)
        rows = counted(first.source_rows, "row")
        if not last.differences.is_equal and first.source_rows != first.shard_rows:
            rows += f" in the source, {first.shard_rows:,}"
        compared = (
            f"{rows} in {counted(first.shards, 'shard')}, "
            f"{counted(len(first.compared), 'window')}; {self.seconds:.1f} s ({rate:,.0f} rows/s)"
        )
        is_equal = last.differences.is_equal
        is_known = not self.is_stopped or (first.compared and not first.is_suspect)
        verdict = ("equal" if is_known else "compared") if is_equal else self.name
        lines.append(f"{verdict}{' so far' if self.cause else ''}: {compared}")
        if self.scope.budget_s is not None:
            rest = (
                "all rows compared"
                if self.cause is None and not last.is_unfinished
                else f"{self._percent} % of rows compared, oldest first"
            )
            lines.append(f"  --budget: {rest}; files are not checked")
        if last.is_unfinished:
            lines.append("the load is unfinished: run migrate; only windows that all shards have were compared")
        lines += [f"  {line}" for line in last.differences.lines()]
        if self.sealed_at and not last.differences.is_equal:
            lines.append(
                f"sealed since {seal.since(self.sealed_at)}: applications write to the shards, so rows that differ "
                "from the source are ahead of it by right"
            )
        elif foreign := last.differences.foreign_rows:
            lines.append(
                f"  no run wrote {foreign:,} of these rows, perhaps an application did; --repair keeps them, "
                "--repair --delete-foreign deletes them"
            )
        if self.is_changing:
            lines.append("  a program wrote to the source meanwhile; the next refresh brings these rows")
        if self.file_check:
            lines.append(f"  files: {self.file_check}")
        if not self.scope.is_everything:
            lines.append("limited by --since or --sample: other windows, and the files as a whole, were not checked")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return [*lines, *self._next_steps()]

    def _next_steps(self) -> Iterator[str]:
        first, last = self.first, self.last
        if first.newer_rows and self.sealed_at:
            newer = counted(first.newer_rows, "row")
            yield f"warning: {newer} of the source came after the seal: a program still writes to the source"
        elif first.newer_rows:
            are = "not loaded yet" if last.is_unfinished else "newer than the shards"
            yield f"{are}: {counted(first.newer_rows, 'row')} of the source; run migrate to load"
        kinds = last.differences.counts().keys()
        if drift := last.differences.drift:
            yield f"next: {drift}; other columns were compared"
        elif self.repaired is None and kinds - {"file"} and not self.warnings and not self.sealed_at:
            also = " --delete-foreign" if last.differences.is_foreign_only else ""
            yield f"next: python -m etl.verify --repair{also}"
        if "file" in kinds:
            way_out = "restore each file named above from a backup" if self.sealed_at else _REBUILD
            yield f"next: {way_out}, and verify again"


def store(settings: Settings, outcome: dict[str, Any]) -> None:
    """Writes the outcome beside the shards: the last one in full, and a line in the history of all."""
    path = status_file.verification_path(settings.SHARD_DIR, settings.TABLE_NAME)
    try:
        verifications.append(settings.SHARD_DIR, settings.TABLE_NAME, outcome)
        files.replace(path, json.dumps(outcome, ensure_ascii=False).encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise EtlError(f"{path}: cannot be written ({error.strerror}); fix the cause and run again") from None
