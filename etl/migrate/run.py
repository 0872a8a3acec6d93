"""A whole migration: what is there, what is left, the load, and the shards made ready to serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from etl.core import portability, ranges
from etl.core.errors import Refused
from etl.core.model import Index, RowidRange, Table
from etl.engines.local import load
from etl.migrate import preflight
from etl.migrate.commit_tracker import CommitTracker
from etl.runtime import limits, log
from etl.runtime.settings import Settings
from etl.shards import checkpoint as stock_of
from etl.shards import reconciliation, shard_set, source_identity
from etl.shards.checkpoint import Checkpoint, R, T
from etl.shards.ddl_check import IndexedColumns, rehearse
from etl.shards.manifest import Manifest
from etl.shards.shard import Shard
from etl.sources import schema
from etl.sources.chunker import Chunker
from etl.sources.reader import Source
from etl.sqlite import sql
from etl.status import status_file
from etl.status.progress import INDEX, Progress
from etl.status.watch import Watch

_TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class ShardTotals:
    """One shard as a run left it."""

    shard: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    rows: int
    """Rows that this run brought."""
    load_s: float
    finish_s: float
    totals: tuple[ShardTotals, ...]
    nothing_new: bool = False
    is_complete: bool = True
    """Whether nothing is left to do; a signal may have come too late to stop anything."""
    last_rowid: int | None = None
    """The last rowid of the ledgers when the run began; None where they were empty."""
    unproved: tuple[int, ...] = ()
    """Shards that were filled after the others, from the source as it was then, without a full verification since."""


class Migration:
    """One table, its shards, and the settings that bind them."""

    def __init__(
        self, settings: Settings, *, run_id: str, stop: threading.Event, tally: Progress, force: bool = False
    ) -> None:
        self._settings = settings
        self._run_id = run_id
        self._stop = stop
        self._tally = tally
        self._force = force
        self._manifest = Manifest(settings.SHARD_DIR, settings.TABLE_NAME)

    def run(self) -> Outcome:
        """Brings the shards to what the source holds now. Raises Refused before anything is written, or EtlError."""
        settings = self._settings
        _check_is_utf8("SOURCE_DB", settings.SOURCE_DB)
        _check_is_utf8("SHARD_DIR", settings.SHARD_DIR)
        table, rowids = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
        indexes = sql.indexes(table, columns=settings.INDEX_COLUMNS, copied=settings.COPY_INDEXES)
        indexed = rehearse(table, indexes)
        shards = shard_set.shards(settings, table)
        stock = stock_of.take(shards, rowids, indexes, self._each)
        self._tally.table = table
        self._tally.last_rowid = last_rowid = stock.done[-1].last_rowid if stock.done else None
        self._tally.paths = dict(zip(settings.shard_map.shards, (shard.path for shard in shards), strict=True))
        if warning := source_identity.check(settings.SOURCE_DB, table, shards, stock, self._each, force=self._force):
            log.event("source", "WARNING", changed=warning)
            self._tally.warnings.append(warning)
        if not stock.is_complete:
            self._preflight(table, rowids, shards, stock, indexed)
        # From here on it writes.
        while stock.backlog.partial:
            self._discard(shards, stock)
            stock = stock_of.take(shards, rowids, indexes, self._each)
        if not self._manifest.is_sound(stock.done) or self._manifest.is_of_an_older_version:
            reconciliation.complete(self._manifest, settings.shard_map, shards, stock, self._each)
        unproved = self._unproved(stock)
        if stock.is_complete:
            totals = self._totals(shards, stock.rows)
            return Outcome(0, 0.0, 0.0, totals, nothing_new=True, last_rowid=last_rowid, unproved=unproved)
        self._announce(table, rowids, stock)
        for warning in portability.warnings(table, indexed, indexes):
            log.event("versions", "WARNING", warning=warning)
        start = time.perf_counter()
        with Watch(self._tally, garbage_ticker_minutes=settings.GARB_COL_TICKER_MINUTES) as watch:
            rows = self._load(table, shards, stock, indexes, watch)
            self._manifest.compact()
            loaded = time.perf_counter()
            self._tally.seconds["load"] = loaded - start
            if self._stop.is_set():
                return Outcome(rows, loaded - start, 0.0, (), is_complete=False)
            finished_rows = self._finish(shards, indexes, watch)
        finished = time.perf_counter()
        self._tally.seconds["index"] = finished - loaded
        done = [rows_of_shard for rows_of_shard in finished_rows if rows_of_shard is not None]
        if len(done) < len(finished_rows):
            return Outcome(rows, loaded - start, finished - loaded, (), is_complete=False)
        log.event("finished", indexes=len(indexes), seconds=round(finished - loaded, 2))
        totals = self._totals(shards, done)
        return Outcome(rows, loaded - start, finished - loaded, totals, last_rowid=last_rowid, unproved=unproved)

    def _discard(self, shards: Sequence[Shard], stock: Checkpoint) -> None:
        """Deletes what a killed run left of the windows that only some shards have; they are loaded as new ones."""
        partial = set(stock.backlog.partial)
        log.event("partial", windows=len(partial), reason="only some shards have them; they are loaded again")
        self._each(
            lambda pair: pair[0].discard(pair[1]),
            [
                (shard, windows)
                for shard, lines in zip(shards, stock.lines, strict=True)
                if (windows := [line.window for line in lines if line.window in partial])
            ],
        )

    def _unproved(self, stock: Checkpoint) -> tuple[int, ...]:
        """The numbers of the shards that wait for a verification, if there is one to wait for."""
        proved_at = status_file.proved_at(
            status_file.verification_path(self._settings.SHARD_DIR, self._settings.TABLE_NAME)
        )
        numbers = self._settings.shard_map.shards
        return tuple(numbers[slot] for slot in stock_of.without_proof(stock.unproved, proved_at))

    def _preflight(
        self,
        table: Table,
        rowids: RowidRange | None,
        shards: Sequence[Shard],
        stock: Checkpoint,
        indexed: IndexedColumns,
    ) -> None:
        settings = self._settings
        preflight.check(
            shards,
            stock,
            directory=settings.SHARD_DIR,
            writers=settings.WRITERS,
            room=preflight.room(settings.SOURCE_DB, table, rowids, stock, indexed, writers=settings.WRITERS),
            force=self._force,
        )

    def _load(
        self, table: Table, shards: Sequence[Shard], stock: Checkpoint, indexes: Sequence[Index], watch: Watch
    ) -> int:
        """Loads what is to do; the rows of the windows that every shard then has."""
        settings, backlog = self._settings, stock.backlog
        indexed = stock.is_finished and stock.growth <= limits.REINDEX_GROWTH
        self._tally.begin(
            now_s=time.monotonic(),
            rowids_todo=backlog.span,
            expected_rows=settings.TOTAL_ROWS,
            indexes=0 if indexed else len(indexes),
            shard_rows=dict(zip(settings.shard_map.shards, stock.rows, strict=True)),
        )
        if backlog.is_nothing:
            return 0
        if not indexed and stock.is_finished and not self._stop.is_set():
            log.event("reindex", growth=f"{stock.growth:.0%}", dropped=len(indexes))
            self._each(lambda shard: shard.drop(indexes), shards)
        start = time.perf_counter()
        source = Source(settings.SOURCE_DB, table)
        load(
            source,
            Chunker(source, backlog, batch_rows=settings.BATCH_SIZE, readers=settings.READERS, slots=len(shards)),
            shards,
            settings.shard_map,
            CommitTracker(settings.shard_map, self._manifest, watch, run_id=self._run_id, before=stock.rows_before),
            run_id=self._run_id,
            writers=settings.WRITERS,
            indexed=indexed,
            stop=self._stop,
        )
        log.event("loaded", rows=watch.rows, windows=watch.windows, seconds=round(time.perf_counter() - start, 2))
        return watch.rows

    def _finish(self, shards: Sequence[Shard], indexes: Sequence[Index], watch: Watch) -> list[int | None]:
        """Makes every shard ready to serve, while the watch ticks; each one's rows, as `finish`."""
        self._tally.phase = INDEX
        with ThreadPoolExecutor(self._settings.WRITERS, thread_name_prefix="etl") as pool:
            futures = [pool.submit(shard.finish, indexes, self._stop) for shard in shards]
            while wait(futures, timeout=_TICK_S).not_done:
                self._tally.indexed = sum(future.done() for future in futures)
                watch.tick()
            return [future.result() for future in futures]

    def _announce(self, table: Table, rowids: RowidRange | None, stock: Checkpoint) -> None:
        if table.triggers:
            log.event("triggers", "WARNING", not_carried=", ".join(table.triggers))
        if self._settings.RESERVED_SHARD < self._settings.NUM_SHARDS:
            log.event(
                "reserved", "WARNING", shard=self._settings.RESERVED_SHARD, shared="keyless rows go among hashed ones"
            )
        log.event(
            "plan",
            source=str(self._settings.SOURCE_DB),
            table=table.name,
            shards=len(stock.found),
            rowids=f"{rowids.first_rowid}..{rowids.last_rowid}" if rowids else "none",
            done=f"{_share_done(rowids, stock):.1%}" if rowids else "100.0%",
        )

    def _totals(self, shards: Sequence[Shard], rows: Sequence[int]) -> tuple[ShardTotals, ...]:
        numbers = self._settings.shard_map.shards
        totals = tuple(
            ShardTotals(number, count, shard.path.stat().st_size)
            for number, shard, count in zip(numbers, shards, rows, strict=True)
        )
        self._tally.shard_rows = {total.shard: total.rows for total in totals}
        for total in totals:
            log.event("shard", shard=total.shard, rows=total.rows, bytes=total.bytes)
        return totals

    def _each(self, work: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        """The work done on each shard, as many at a time as there are writers; raises the first error."""
        with ThreadPoolExecutor(self._settings.WRITERS, thread_name_prefix="etl") as pool:
            return list(pool.map(work, items))


def _share_done(rowids: RowidRange, stock: Checkpoint) -> float:
    """How much of the source's rowids every shard has; what is done of rowids that the source has lost says nothing."""
    return sum(piece.span for piece in ranges.intersect(stock.done, (rowids,))) / rowids.span


def _check_is_utf8(name: str, path: Path) -> None:
    """SQLite and its driver take no other path."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise Refused(f"{name}={path}: expected a path in UTF-8; rename it, or choose another") from None
