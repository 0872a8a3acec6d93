"""The load of one run: the backlog into the shards, then indexes, statistics and WAL."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

from etl.core.model import Table
from etl.engines import local
from etl.migrate import load_log
from etl.migrate.commit_tracker import CommitTracker
from etl.runtime import limits, log
from etl.runtime.settings import Settings
from etl.shards import compaction
from etl.shards.checkpoint import Checkpoint, Each
from etl.shards.shard_set import ConfiguredShardSet
from etl.sources.chunker import Chunker
from etl.sources.reader import Source
from etl.status.progress import INDEX, Progress
from etl.status.progress_bar import ProgressBar

_TICK_S = 0.5


class Load:
    """Loads what the checkpoint found to be missing."""

    def __init__(
        self,
        settings: Settings,
        table: Table,
        shards: ConfiguredShardSet,
        found: Checkpoint,
        *,
        run_id: str,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._table = table
        self._shards = shards
        self._found = found
        self._run_id = run_id
        self._stop = stop
        self._progress = progress

    def run(self, each: Each) -> bool:
        """Returns whether nothing is left to do. Raises StaleRows or another EtlError."""
        try:
            return self._run(each)
        finally:
            self._progress.ended_s = time.monotonic()

    def _run(self, each: Each) -> bool:
        shards, start = self._shards, time.perf_counter()
        with ProgressBar(self._progress, garbage_minutes=self._settings.GARB_COL_TICKER_MINUTES) as bar:
            self._load(bar, each)
            shards.manifest.compact()
            if self._found.backlog.lost and not self._stop.is_set():
                compaction.compact(shards.shards, shards.manifest, each)
            loaded = time.perf_counter()
            self._progress.seconds["load"] = loaded - start
            if self._stop.is_set():
                return False
            finished_rows = self._finish(bar)
        finished = time.perf_counter()
        self._progress.seconds["index"] = finished - loaded
        done = [count for count in finished_rows if count is not None]
        if len(done) < len(finished_rows):
            return False
        log.event("finished", indexes=len(shards.indexes), seconds=round(finished - loaded, 2))
        load_log.totals(self._progress, shards, done)
        return True

    def _load(self, bar: ProgressBar, each: Each) -> None:
        settings, shards, found, progress = self._settings, self._shards, self._found, self._progress
        backlog = found.backlog
        keeps_indexes = found.is_finished and found.growth <= limits.REINDEX_GROWTH
        progress.begin_load(
            now_s=time.monotonic(),
            rowids_todo=backlog.span,
            expected_rows=settings.TOTAL_ROWS,
            indexes=0 if keeps_indexes else len(shards.indexes),
            shard_rows=dict(zip(shards.map.shards, found.rows, strict=True)),
        )
        if backlog.is_nothing:
            return
        if not keeps_indexes and found.is_finished and not self._stop.is_set():
            dropped = [index for index in shards.indexes if not index.is_unique]  # those find stale rows
            log.event("reindex", growth=f"{found.growth:.0%}", dropped=len(dropped))
            each(lambda shard: shard.drop(dropped), shards.shards)
        start = time.perf_counter()
        source = Source(settings.SOURCE_DB, self._table)
        local.load(
            source,
            Chunker(
                source, backlog, batch_rows=settings.BATCH_SIZE, readers=settings.READERS, slots=len(shards.shards)
            ),
            shards.shards,
            shards.map,
            CommitTracker(
                shards.map, shards.manifest, progress, run_id=self._run_id, before=found.rows_before, tick=bar.tick
            ),
            run_id=self._run_id,
            writers=settings.WRITERS,
            indexed=keeps_indexes,
            max_rate=settings.MAX_RATE,
            stop=self._stop,
        )
        seconds = round(time.perf_counter() - start, 2)
        log.event("loaded", rows=progress.rows, windows=progress.windows, seconds=seconds)

    def _finish(self, bar: ProgressBar) -> list[int | None]:
        """Finishes every shard; returns their rows, as `Shard.finish` does."""
        self._progress.phase = INDEX
        with ThreadPoolExecutor(self._settings.WRITERS, thread_name_prefix="etl") as pool:
            futures = [pool.submit(shard.finish, self._shards.indexes, self._stop) for shard in self._shards.shards]
            while wait(futures, timeout=_TICK_S).not_done:
                self._progress.indexed = sum(future.done() for future in futures)
                bar.tick()
            return [future.result() for future in futures]
