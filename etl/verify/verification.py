"""One verification, chunk by chunk; with permits also the repair of what it found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from etl.core.model import RowidRange, Table
from etl.core.partition import ToUtf8
from etl.runtime import log
from etl.runtime.lock import Turn
from etl.runtime.rate_limit import RateLimit
from etl.runtime.settings import Settings
from etl.shards import schema_drift, seal, shard_set, source_identity
from etl.shards.comparison import Comparison
from etl.shards.schema_drift import SchemaDrift
from etl.sources import schema, source_file
from etl.sources.reader import Source
from etl.sources.source_file import SourceState
from etl.sqlite.adbc import Connection
from etl.sqlite.utf16 import utf8_converter
from etl.status import status_file
from etl.status.checks import Checks
from etl.status.progress import Progress
from etl.status.progress_bar import ProgressBar
from etl.verify.checker import Checker
from etl.verify.chunks import Chunk, Chunks
from etl.verify.differences import Result, total
from etl.verify.halt import Cause, Halt, Stopped
from etl.verify.inventory import Inventory
from etl.verify.outcome import Outcome
from etl.verify.repair import Permits, Repair
from etl.verify.scope import Scope


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
        self._rate = RateLimit(settings.MAX_RATE)
        self._is_loaded = is_loaded
        self._chunks = Chunks(Checks(settings.SHARD_DIR, settings.TABLE_NAME), settings.MAX_RATE)
        self._bar = ProgressBar(Progress())
        self._started, self._start = log.now(), time.perf_counter()
        self._warnings: tuple[str, ...] = ()
        self._sealed_at: str | None = None
        self._whole: Result | None = None
        """What belongs to no chunk."""
        self._whole_left: Result | None = None
        """The same after a repair."""
        self._repaired: frozenset[RowidRange] = frozenset()
        self._are_files_checked = False

    def run(self) -> Outcome:
        """Raises EtlError, or Refused before anything is written."""
        self._inspected()
        before = source_file.state(self._settings.SOURCE_DB)
        cause: Cause | None = Cause.RUN
        with self._bar:
            try:
                while cause is Cause.RUN:
                    with self._turn_taken():
                        table, rowids = self._inspected()  # a run may have changed its columns
                        with utf8_converter(table.encoding) as utf8:
                            cause = self._sitting(table, rowids, utf8)
                if cause is None and self._permits is None and self._scope.checks_files:
                    self._check_files()
            except Stopped:
                cause = Cause.STOP
        return self._outcome(cause, before)

    def _inspected(self) -> tuple[Table, RowidRange | None]:
        return schema.inspect(self._settings.SOURCE_DB, self._settings.TABLE_NAME, self._settings.SHARD_KEY)

    def _turn_taken(self) -> AbstractContextManager[None]:
        return self._turn.taken(self._halt.check_stop) if self._turn else nullcontext()

    def _check_files(self) -> None:
        """Checks the files. No run waits for it, unless some are not in WAL mode: there readers keep writers out."""
        serve = self._inventory.structure.all_serve
        with nullcontext() if serve else self._turn_taken():
            self._inventory.check_files(self._halt, self._turn_taken if serve else nullcontext)
        if self._whole is not None:
            self._whole.differences.add_files(self._inventory.result.differences)
        self._are_files_checked = True

    def _sitting(self, table: Table, rowids: RowidRange | None, utf8: ToUtf8 | None) -> Cause | None:
        """Compares until the end, or until a run wants the shards; why it ended before the end."""
        settings = self._settings
        shards = shard_set.configured(settings, table)
        found = source_identity.each_readable(lambda shard: shard.find(()), shards.shards)
        drift = schema_drift.of(table, found)
        self._sealed_at = seal.sealed_at(seal.of(found))
        if self._permits is not None:
            seal.check(settings.SHARD_DIR, found)
            replace(drift, altered={}).check(settings.SOURCE_DB, shards.shards)  # the rest can be repaired
        comparison = Comparison(settings.SOURCE_DB, drift.common, shards.map, rowids, utf8)
        if is_first := self._whole is None:
            repair, force = self._permits is not None, bool(self._permits and self._permits.force)
            self._warnings = source_identity.check_for_verification(
                settings.SOURCE_DB, drift.common, shards.shards, found, repair=repair, force=force
            )
        inventory = self._inventory = self._counted(drift, comparison)
        with comparison.open() as source:
            if self._whole is None:
                self._bar.begin_verification(self._chunks.begin(inventory))
                inventory.check(source, rowids, self._halt)
                self._whole = inventory.result
            cause = self._walk(inventory, source)
            if cause is None and not is_first:
                if self._chunks.once_more(inventory):
                    self._whole.differences.forget_files()  # they are read again
                cause = self._walk(inventory, source)
            if cause is None and not is_first:
                inventory.check(source, rowids, self._halt)
                inventory.result.differences.add_files(self._whole.differences)
                self._whole = inventory.result
        self._whole.differences.add_files(inventory.result.differences)
        self._whole.is_unfinished &= inventory.result.is_unfinished
        if self._permits is not None and cause is not Cause.STOP:
            if self._scope.checks_files:
                inventory.check_files(self._halt, nullcontext)
                self._are_files_checked = True
            self._repair(inventory, [chunk for chunk in self._chunks.compared if chunk.checker])
            if self._permits.deletes is not None:
                self._chunks.forget_deleted()
        if cause is not Cause.STOP or self._repaired:
            self._finish(inventory, rowids)
        return cause

    def _counted(self, drift: SchemaDrift, comparison: Comparison) -> Inventory:
        """The shards as they are now."""
        settings = self._settings
        run = status_file.read(status_file.path_of(settings.SHARD_DIR, settings.TABLE_NAME))
        is_loaded = self._is_loaded or run is None or run.outcome not in status_file.UNFINISHED
        source, shards = Source(settings.SOURCE_DB, drift.common), shard_set.configured(settings, drift.table)
        return Inventory(source, comparison, shards, self._scope, drift=drift, is_loaded=is_loaded)

    def _walk(self, inventory: Inventory, source: Connection) -> Cause | None:
        """Compares chunk after chunk, the oldest check first; why it ended before the last."""
        for number, windows in enumerate(self._chunks.left(inventory)):
            cause = self._halt.cause
            if cause and (number or cause is not Cause.BUDGET):  # each budget brings a chunk, or a part of one
                return cause
            if cause := self._compare(inventory, windows, source):
                return cause
        return None

    def _compare(self, inventory: Inventory, windows: Sequence[RowidRange], source: Connection) -> Cause | None:
        checked_at = log.now().isoformat(timespec="milliseconds")
        checker = Checker(inventory, windows, bar=self._bar, halt=self._halt, rate=self._rate)
        try:
            found = checker.run(source)
        except Stopped:
            if self._whole is not None:
                self._whole.is_suspect = True  # it looked at the rows of a block that differs
            raise
        is_right = found.differences.is_equal and not found.differences.ledgers
        coverage, rows = checker.blocks.coverage, int(inventory.rows_of(found.compared).sum())
        chunk = Chunk(found, found, coverage, rows, checked_at, None if is_right else checker)
        self._chunks.add(chunk)
        if is_right or self._permits is None:
            deleted = None if self._permits is None else 0
            self._chunks.record(inventory, chunk, equal=found.differences.is_equal, deleted=deleted)
        return checker.cause

    def _repair(self, inventory: Inventory, chunks: Sequence[Chunk]) -> None:
        """Replaces the rows of these chunks that differ, and compares their windows again."""
        if not chunks or self._permits is None or self._whole is None:
            return
        repair = Repair(inventory, self._permits, run_id=self._run_id, halt=self._halt)
        repair.check(
            total(self._whole, [chunk.found for chunk in self._chunks.compared]),
            rows=int(inventory.rows.sum()),
            deleted=self._chunks.deleted_elsewhere,
        )
        windows: list[frozenset[RowidRange]] = []
        for chunk in chunks:
            # Before they are deleted, so that not even a kill lets the next refresh forget them.
            self._chunks.record(inventory, chunk, equal=False, deleted=repair.deletes_to_count(chunk.found))
            windows.append(repair.run(chunk.checker) if chunk.checker else frozenset())
        again = self._counted(inventory.drift, inventory.comparison)
        with again.comparison.open() as source:
            for chunk, repaired in zip(chunks, windows, strict=True):
                chunk.checker = None
                self._repaired |= repaired
                if repaired:
                    halt = Halt(self._halt.stop)  # without the budget
                    checker = Checker(again, sorted(repaired), bar=self._bar, halt=halt, rate=self._rate)
                    chunk.left = checker.run(source)
                    if checker.cause:
                        raise Stopped
                deleted = repair.deletes_to_count(chunk.found)
                self._chunks.record(again, chunk, equal=chunk.left.differences.is_equal, deleted=deleted)

    def _finish(self, inventory: Inventory, rowids: RowidRange | None) -> None:
        """Repairs what belongs to no chunk, and checks it again."""
        if self._permits is None or self._whole is None:
            return
        if not self._repaired and self._whole.differences.is_equal:
            return
        repair = Repair(inventory, self._permits, run_id=self._run_id, halt=self._halt)
        repair.check(self._whole, rows=int(inventory.rows.sum()), deleted=0)
        repair.finish()
        again = self._counted(inventory.drift, inventory.comparison)
        with again.comparison.open() as source:
            again.check(source, rowids, self._halt)
        self._whole_left = again.result
        self._whole_left.differences.add_files(self._whole.differences)  # they are not compared again

    def _outcome(self, cause: Cause | None, before: SourceState) -> Outcome:
        whole = self._whole or Result()
        first = total(whole, [chunk.found for chunk in self._chunks.last])
        last = total(self._whole_left or whole, [chunk.left for chunk in self._chunks.last])
        return Outcome(
            first=first,
            last=last,
            repaired=self._repaired if self._whole_left else None,
            scope=self._scope,
            seconds=time.perf_counter() - self._start,
            started_at=self._started,
            source=before,
            share=1.0 if cause is None else min(1.0, self._chunks.share),
            cause=cause,
            are_files_checked=self._are_files_checked,
            warnings=self._warnings,
            sealed_at=self._sealed_at,
        )
