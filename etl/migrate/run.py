"""One run: the checkpoint from the ledgers, the checks, the load of the backlog, and the finished shards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from etl.core import ranges
from etl.core.errors import EtlError
from etl.core.model import RowidRange, Table
from etl.migrate import disk_estimate, load_log, preflight
from etl.migrate.evolution import drop_outdated, evolve
from etl.migrate.load import Load
from etl.migrate.outcome import Outcome
from etl.runtime import log
from etl.runtime.settings import Settings
from etl.shards import (
    checkpoint,
    compaction,
    ledger_arrays,
    reconciliation,
    schema_drift,
    seal,
    shard_set,
    source_identity,
)
from etl.shards.checkpoint import Checkpoint, R, T
from etl.shards.comparison import Comparison
from etl.shards.cursor import Cursor, column_of
from etl.shards.ddl_check import IndexedColumns, rehearse
from etl.shards.replace import Replacement
from etl.shards.shard_set import ConfiguredShardSet
from etl.shards.unique import StaleRows
from etl.sources import schema
from etl.sqlite.utf16 import utf8_converter
from etl.status import verifications
from etl.status.progress import Progress

_TICK_S = 0.5


class Migration:
    """A run of one table. `warn` gets what the operator should know although the run goes on."""

    def __init__(
        self,
        settings: Settings,
        *,
        run_id: str,
        stop: threading.Event,
        progress: Progress,
        warn: Callable[[str], None],
        force: bool = False,
        evolve: bool = False,
    ) -> None:
        self._settings = settings
        self._run_id = run_id
        self._stop = stop
        self._progress = progress
        self._warn = warn
        self._force = force
        self._cursor: Cursor | None = None
        self._evolve = evolve
        self._evolved: tuple[str, ...] = ()
        """New columns that this run has brought to the shards."""
        self._replaced = np.empty(0, np.int64)
        """The rowids of old rows that this run has replaced because they kept new ones out."""

    def run(self) -> Outcome:
        """Brings the shards to what the source has now. Raises Refused before anything is written, or EtlError."""
        while (outcome := self._attempt()) is None:
            pass
        return outcome

    def _attempt(self) -> Outcome | None:
        """A run; None where it ended at old rows that kept new ones out, and that are replaced now."""
        settings = self._settings
        preflight.check_is_utf8("SOURCE_DB", settings.SOURCE_DB)
        preflight.check_is_utf8("SHARD_DIR", settings.SHARD_DIR)
        table, rowids = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
        column = column_of(table, settings.CURSOR_COLUMN) if settings.CURSOR_COLUMN else None
        shards = shard_set.configured(settings, table)
        indexed = rehearse(table, shards.indexes)
        found = checkpoint.take(shards.shards, rowids, shards.indexes, self._each)
        seal.check(settings.SHARD_DIR, found.found)
        drift = schema_drift.of(table, found.found)
        drift.check(settings.SOURCE_DB, shards.shards, evolve=self._evolve)
        last_rowid = found.done[-1].last_rowid if found.done else None
        self._progress.resume(last_rowid)
        warning = source_identity.check(
            settings.SOURCE_DB, drift.common, shards.shards, found, self._each, force=self._force
        )
        if warning and not len(self._replaced):  # else the same run has said so before
            log.event("source", "WARNING", changed=warning)
            self._warn(warning)
        if not found.is_complete or drift.new:
            self._check(table, rowids, shards, found, indexed)
        if column and not self._cursor:
            self._cursor = Cursor(settings, table, column, shards, rowids, run_id=self._run_id)
        # From here on it writes.
        if self._cursor and not self._cursor.has_begun:
            self._cursor.begin(ranges.union([*found.done, *found.backlog.lost]))
        drop_outdated(shards.shards, found, self._each)
        if drift.new:
            ended = evolve(
                settings.SOURCE_DB, shards, found, drift, rowids, run_id=self._run_id, stop=self._stop, each=self._each
            )
            if not ended:
                return Outcome(is_complete=False)
            self._evolved = tuple(drift.new)
        while found.backlog.partial:
            self._discard_partial(shards, found)
            found = checkpoint.take(shards.shards, rowids, shards.indexes, self._each)
        reconciliation.follow_ledgers(shards.manifest, shards.map, shards.shards, found, self._each)
        if compaction.is_due(found, shards.manifest.height):
            compaction.compact(shards.shards, shards.manifest, self._each)
        unproved = self._unproved(found)
        if found.is_complete:
            load_log.totals(self._progress, shards, found.rows)
            nothing = Outcome(nothing_new=True, last_rowid=last_rowid, unproved=unproved, evolved=self._evolved)
            return self._follow_updates(nothing, rowids, shards)
        load_log.begin(settings, table, rowids, found, indexed=indexed, indexes=shards.indexes)
        try:
            is_complete = Load(
                settings, table, shards, found, run_id=self._run_id, stop=self._stop, progress=self._progress
            ).run(self._each)
        except StaleRows as stale:
            if np.isin(stale.rowids, self._replaced).all():
                raise EtlError(
                    f"SOURCE_DB={self._settings.SOURCE_DB}, TABLE_NAME={table.name}: expected UNIQUE values once, "
                    f"found one of the row {stale.rowids[0]} again in a new row; PRAGMA integrity_check tells whether "
                    "an index is damaged; if not, a program changed the rows meanwhile; run again"
                ) from None
            self._replaced = np.union1d(self._replaced, stale.rowids)
            self._replace(table, rowids, shards, stale.rowids)
            return None
        rows, seconds = self._progress.rows, self._progress.elapsed_s(time.monotonic())
        done = Outcome(rows, seconds, last_rowid=last_rowid, unproved=unproved, evolved=self._evolved)
        if not is_complete:
            return Outcome(rows, seconds, is_complete=False, evolved=self._evolved)
        return self._follow_updates(done, rowids, shards)

    def _check(
        self,
        table: Table,
        rowids: RowidRange | None,
        shards: ConfiguredShardSet,
        found: Checkpoint,
        indexed: IndexedColumns,
    ) -> None:
        settings = self._settings
        preflight.check(
            shards.shards,
            found,
            directory=settings.SHARD_DIR,
            writers=settings.WRITERS,
            needed=disk_estimate.estimate(settings.SOURCE_DB, table, rowids, found, indexed, writers=settings.WRITERS),
            force=self._force,
        )

    def _discard_partial(self, shards: ConfiguredShardSet, found: Checkpoint) -> None:
        """Deletes the rows of windows that only some shards have, left by a killed run; they are loaded again."""
        windows = len(found.backlog.partial)
        log.event("partial", windows=windows, reason="only some shards have them; they are loaded again")
        pairs = zip(shards.shards, found.partial, strict=True)
        self._each(lambda pair: pair[0].discard(pair[1]), [pair for pair in pairs if pair[1]])

    def _unproved(self, found: Checkpoint) -> tuple[int, ...]:
        proof = verifications.last_full_proof(self._settings.SHARD_DIR, self._settings.TABLE_NAME)
        numbers = self._settings.shard_map.shards
        slots = checkpoint.without_proof(found.unproved, proof.started_at if proof else None)
        return tuple(numbers[slot] for slot in slots)

    def _replace(
        self, table: Table, rowids: RowidRange | None, shards: ConfiguredShardSet, stale: ledger_arrays.Numbers
    ) -> None:
        """Brings old rows, which keep new ones out by a UNIQUE value, to what the source has now."""
        with utf8_converter(table.encoding) as utf8:
            comparison = Comparison(self._settings.SOURCE_DB, table, shards.map, rowids, utf8)
            replacement = Replacement(self._settings.SOURCE_DB, shards.shards, comparison, run_id=self._run_id)
            replacement.replace(stale, replacement.holders(stale))
        log.event("replaced", rows=len(stale), reason="new rows have their UNIQUE values")

    def _follow_updates(self, done: Outcome, rowids: RowidRange | None, shards: ConfiguredShardSet) -> Outcome:
        """Replaces old rows that were updated: new rows do not wait for them."""
        if self._cursor is None:
            return done
        is_complete = self._cursor.follow(self._stop)
        if self._cursor.replaced:
            found = checkpoint.take(shards.shards, rowids, shards.indexes, self._each)
            reconciliation.follow_ledgers(shards.manifest, shards.map, shards.shards, found, self._each)
        return replace(done, updated=self._cursor.replaced, is_complete=is_complete)

    def _each(self, work: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        """The results of the work on each shard, WRITERS at a time; raises the first error."""
        with ThreadPoolExecutor(self._settings.WRITERS, thread_name_prefix="etl") as pool:
            return list(pool.map(work, items))
