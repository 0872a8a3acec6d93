"""One verification, chunk by chunk; with permits also the repair of what it found."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from etl.core import ranges
from etl.core.model import RowidRange, Table
from etl.core.partition import ToUtf8
from etl.core.ranges import Coverage
from etl.runtime import log
from etl.runtime.lock import Turn
from etl.runtime.rate_limit import RateLimit
from etl.runtime.settings import Settings
from etl.shards import schema_drift, shard_set, source_identity
from etl.shards.comparison import Comparison
from etl.shards.schema_drift import SchemaDrift
from etl.sources import schema, source_file
from etl.sources.reader import Source
from etl.sqlite.adbc import Connection
from etl.sqlite.utf16 import utf8_converter
from etl.status import status_file
from etl.status.checks import Checks
from etl.status.progress import Progress
from etl.status.progress_bar import ProgressBar
from etl.verify.blocks import chunks
from etl.verify.checker import Checker
from etl.verify.differences import Result, total
from etl.verify.halt import Cause, Halt, Stopped
from etl.verify.inventory import Inventory
from etl.verify.outcome import Outcome
from etl.verify.repair import Permits, Repair
from etl.verify.scope import Scope

_RATED_CHUNK_S = 60
"""With a rate limit a chunk takes no longer: a part of it may be compared again after a run."""


@dataclass(slots=True)
class _Part:
    """A chunk that was compared."""

    found: Result
    left: Result
    """What still differs: `found`, or what was found after the repair."""
    coverage: Coverage
    rows: int
    checked_at: str
    checker: Checker | None
    """None where there is nothing to repair."""


class Verification:
    """Compares what is in a scope. A run may have the shards between two blocks, unless this is one itself."""

    def __init__(
        self,
        settings: Settings,
        scope: Scope,
        permits: Permits | None,
        *,
        run_id: str,
        halt: Halt,
        turn: Turn | None = None,
        max_rate: int | None = None,
        is_loaded: bool = False,
    ) -> None:
        """With permits what differs is repaired. `turn` is None where the caller has the shards already.

        `is_loaded` is when a load is known to be complete.
        """
        self._settings = settings
        self._scope = scope
        self._permits = permits
        self._run_id = run_id
        self._halt = halt
        self._turn = turn
        self._rate = RateLimit(max_rate)
        self._most_rows = math.inf if max_rate is None else max_rate * _RATED_CHUNK_S
        self._is_loaded = is_loaded
        self._checks = Checks(settings.SHARD_DIR, settings.TABLE_NAME)
        self._bar = ProgressBar(Progress())
        self._started, self._start = log.now(), time.perf_counter()
        self._before = source_file.state(settings.SOURCE_DB)
        self._warnings: tuple[str, ...] = ()
        self._parts: list[_Part] = []
        self._whole: Result | None = None
        """What belongs to no chunk."""
        self._whole_left: Result | None = None
        """The same after a repair."""
        self._left: Coverage = ()
        """The rowids that are still to be compared."""
        self._rows = 0
        """All rows to be compared."""
        self._repaired: frozenset[RowidRange] = frozenset()

    def run(self) -> Outcome:
        """Raises EtlError, or Refused before anything is written."""
        cause: Cause | None = Cause.RUN
        with self._bar:
            try:
                while cause is Cause.RUN:
                    with self._turn.taken(self._halt.check_stop) if self._turn else nullcontext():
                        table, rowids = schema.inspect(
                            self._settings.SOURCE_DB, self._settings.TABLE_NAME, self._settings.SHARD_KEY
                        )
                        with utf8_converter(table.encoding) as utf8:
                            cause = self._sitting(table, rowids, utf8)
                if cause is None and self._permits is None and self._scope.checks_files:
                    self._inventory.check_files(self._halt)  # as a reader: no run waits for it
                    self._add_files(self._inventory)
            except Stopped:
                cause = Cause.STOP
        return self._outcome(cause)

    def _sitting(self, table: Table, rowids: RowidRange | None, utf8: ToUtf8 | None) -> Cause | None:
        """Compares until the end, or until a run wants the shards; why it ended before the end."""
        settings = self._settings
        shards = shard_set.configured(settings, table)
        found = source_identity.each_readable(lambda shard: shard.find(()), shards.shards)
        drift = schema_drift.of(table, found)
        if self._permits is not None:
            replace(drift, altered={}).check(settings.SOURCE_DB, shards.shards)  # the rest can be repaired
        comparison = Comparison(settings.SOURCE_DB, drift.common, shards.map, rowids, utf8)
        if self._whole is None:
            force, repair = bool(self._permits and self._permits.force), self._permits is not None
            self._warnings = source_identity.check_for_verification(
                settings.SOURCE_DB, drift.common, shards.shards, found, repair=repair, force=force
            )
        inventory = self._inventory = self._counted(drift, comparison)
        with comparison.open() as source:
            if self._whole is None:
                self._begin(inventory)
                inventory.check(source, rowids, self._halt)
                self._whole = inventory.result
            cause = self._walk(inventory, source)
        self._add_files(inventory)
        self._whole.is_unfinished &= inventory.result.is_unfinished
        if self._permits is not None and cause is not Cause.STOP:
            if self._scope.checks_files:
                inventory.check_files(self._halt)
            self._repair(inventory, [part for part in self._parts if part.checker])
            self._finish(inventory, rowids)
        return cause

    def _counted(self, drift: SchemaDrift, comparison: Comparison) -> Inventory:
        """The shards as they are now."""
        settings = self._settings
        run = status_file.read(status_file.path_of(settings.SHARD_DIR, settings.TABLE_NAME))
        is_loaded = self._is_loaded or run is None or run.outcome not in status_file.UNFINISHED
        source, shards = Source(settings.SOURCE_DB, drift.common), shard_set.configured(settings, drift.table)
        return Inventory(source, comparison, shards, self._scope, drift=drift, is_loaded=is_loaded)

    def _begin(self, inventory: Inventory) -> None:
        """Decides what is to be compared."""
        complete = [window for window in inventory.windows if window not in inventory.partial]
        chosen = self._scope.windows(complete, rows=int(inventory.rows.sum()), row_bytes=inventory.row_bytes)
        self._left = ranges.union(chosen)
        self._rows = int(inventory.rows_of(chosen).sum())
        self._bar.begin_verification(self._rows)

    def _walk(self, inventory: Inventory, source: Connection) -> Cause | None:
        """Compares chunk after chunk, the oldest check first; why it ended before the last."""
        windows = [
            window
            for window in inventory.windows
            if window not in inventory.partial and ranges.intersect(self._left, (window,))
        ]
        # Lines that were joined meanwhile may reach into a chunk that was compared: then that one does not count.
        self._parts = [part for part in self._parts if not ranges.intersect(part.coverage, tuple(windows))]
        windows.sort(key=lambda window: (self._checks.oldest(window), window))
        parts = chunks(windows, inventory.rows_of(windows), inventory.row_bytes, most_rows=self._most_rows)
        for number, chunk in enumerate(parts):
            cause = self._halt.cause
            if cause and (number or cause is not Cause.BUDGET):  # each budget brings a chunk, or a part of one
                return cause
            if cause := self._compare(inventory, chunk, source):
                return cause
        return None

    def _compare(self, inventory: Inventory, windows: Sequence[RowidRange], source: Connection) -> Cause | None:
        checked_at = log.now().isoformat(timespec="milliseconds")
        checker = Checker(inventory, windows, bar=self._bar, halt=self._halt, rate=self._rate)
        found = checker.run(source)
        is_right = found.differences.is_equal and not found.differences.ledgers
        coverage, rows = checker.blocks.coverage, int(inventory.rows_of(found.compared).sum())
        part = _Part(found, found, coverage, rows, checked_at, None if is_right else checker)
        self._left = ranges.subtract(self._left, coverage)
        self._parts.append(part)
        if is_right or self._permits is None:
            self._record(inventory, part)
        elif self._scope.budget_s is not None:
            self._repair(inventory, [part])
        return checker.cause

    def _record(self, inventory: Inventory, part: _Part, *, deleted: int = 0, equal: bool | None = None) -> None:
        """Notes when a chunk was compared, if it was in all shards."""
        if part.coverage and inventory.is_whole and self._scope.shards is None:
            equal = part.left.differences.is_equal if equal is None else equal
            self._checks.record(part.coverage, part.checked_at, equal=equal, deleted=deleted)

    def _repair(self, inventory: Inventory, parts: Sequence[_Part]) -> None:
        """Replaces the rows of these chunks that differ, and compares their windows again."""
        if not parts or self._permits is None or self._whole is None:
            return
        repair = Repair(inventory, self._permits, run_id=self._run_id, halt=self._halt)
        compared = ranges.union(piece for part in self._parts for piece in part.coverage)
        repair.check(
            total(self._whole, [part.found for part in self._parts]),
            rows=int(inventory.rows.sum()),
            deleted=self._checks.deleted_outside(compared),
        )
        windows: list[frozenset[RowidRange]] = []
        for part in parts:
            # Before they are deleted, so that not even a kill lets the next refresh forget them.
            self._record(inventory, part, deleted=self._deleted(repair, part), equal=False)
            if part.checker:
                windows.append(repair.run(part.checker))
        again = self._counted(inventory.drift, inventory.comparison)
        with again.comparison.open() as source:
            for part, repaired in zip(parts, windows, strict=True):
                part.checker = None
                if repaired:
                    checker = Checker(
                        again, sorted(repaired), bar=self._bar, halt=Halt(self._halt.stop), rate=self._rate
                    )
                    part.left = checker.run(source)
                    if checker.cause:
                        raise Stopped
                self._repaired |= repaired
                self._record(again, part, deleted=self._deleted(repair, part))

    def _deleted(self, repair: Repair, part: _Part) -> int:
        is_allowed = self._permits is not None and self._permits.deletes is not None
        return 0 if is_allowed else repair.deletes(part.found)

    def _finish(self, inventory: Inventory, rowids: RowidRange | None) -> None:
        """Repairs what belongs to no chunk, and checks it again."""
        if self._permits is None or self._whole is None:
            return
        if self._permits.deletes is not None:
            self._checks.forget_deleted()
        if not self._repaired and self._whole.differences.is_equal:
            return
        repair = Repair(inventory, self._permits, run_id=self._run_id, halt=self._halt)
        repair.check(self._whole, rows=int(inventory.rows.sum()), deleted=0)
        repair.finish()
        again = self._counted(inventory.drift, inventory.comparison)
        with again.comparison.open() as source:
            again.check(source, rowids, self._halt)
        self._whole_left = again.result
        _add_files(self._whole, self._whole_left)

    def _add_files(self, inventory: Inventory) -> None:
        if self._whole is not None:
            _add_files(inventory.result, self._whole)

    def _outcome(self, cause: Cause | None) -> Outcome:
        whole = self._whole or Result()
        first = total(whole, [part.found for part in self._parts])
        last = total(self._whole_left or whole, [part.left for part in self._parts])
        compared = sum(part.rows for part in self._parts)
        return Outcome(
            first=first,
            last=last,
            repaired=self._repaired if self._whole_left else None,
            scope=self._scope,
            seconds=time.perf_counter() - self._start,
            started_at=self._started,
            source=self._before,
            share=1.0 if cause is None else compared / max(1, self._rows),
            cause=cause,
            warnings=self._warnings,
        )


def _add_files(result: Result, to: Result) -> None:
    """Files that were found damaged once are not compared again, so the second comparison does not find them."""
    if result is not to:
        to.differences.notes += [
            note for note in result.differences.notes if note.kind == "file" and note not in to.differences.notes
        ]
