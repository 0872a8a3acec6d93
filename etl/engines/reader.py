"""The reader thread: batch by batch from the source, each routed and handed to every writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from etl.core import partition
from etl.core.columns import ReadTypes
from etl.core.model import ReadTask, RowidRange, ShardMap, Table
from etl.engines.writer import Routed
from etl.runtime import log
from etl.sources.chunker import Chunker
from etl.sources.reader import Source
from etl.sqlite import sql
from etl.sqlite.utf16 import Utf8


@dataclass(frozen=True, slots=True)
class WindowRead:
    """What reading and routing one window took; a batch's figures are shared out by rows."""

    window: RowidRange
    rows_by_slot: tuple[int, ...]
    bytes: int
    widened: tuple[str, ...]
    read_ms: float
    route_ms: float
    started_at: datetime

    @property
    def rows(self) -> int:
        """The window's rows over all slots."""
        return sum(self.rows_by_slot)


@dataclass(frozen=True, slots=True)
class _Read:
    """A batch as it came from the source, in the lanes it came in."""

    batch: ReadTask
    frame: pl.DataFrame
    read_types: ReadTypes
    widened: tuple[str, ...]
    started_at: datetime
    ms: float


def read_all(
    source: Source,
    survey: Chunker,
    shards: ShardMap,
    *,
    admit: Callable[[ReadTask], None],
    report: Callable[[WindowRead], None],
    hand_over: Callable[[Routed], bool],
) -> None:
    """Reads and routes every batch of the survey, one read ahead.

    `admit` returns when there is memory for the batch; `hand_over` says whether to go on.
    """
    batches = survey.batches()

    def read_next() -> _Read | None:
        batch = next(batches, None)
        if batch is None:
            return None
        admit(batch)
        started_at, start = log.now(), time.perf_counter()
        frame = source.read(batch)
        survey.observe(batch, frame.height)
        return _Read(batch, frame, source.read_types, source.widened, started_at, (time.perf_counter() - start) * 1000)

    table = source.table
    with closing(Utf8(table.encoding)) as utf8, ThreadPoolExecutor(1, thread_name_prefix="etl") as ahead:
        to_utf8 = None if table.encoding == "UTF-8" else utf8
        coming = ahead.submit(read_next)
        while (read := coming.result()) is not None:
            coming = ahead.submit(read_next)
            start = time.perf_counter()
            rows = _partition(read, table, shards, to_utf8)
            route_ms = (time.perf_counter() - start) * 1000
            for window_read in _shared_out(read, rows, route_ms):
                report(window_read)
            if not hand_over(Routed(read.batch, rows, sql.insert(table, read.read_types))):
                return


def _partition(read: _Read, table: Table, shards: ShardMap, utf8: partition.ToUtf8 | None) -> partition.RowsByShard:
    keys = partition.keys(read.frame, table, read.read_types, utf8=utf8)
    return partition.split_by_shard(
        read.frame, keys, table=table, read_types=read.read_types, windows=read.batch.windows, shards=shards
    )


def _shared_out(read: _Read, rows: partition.RowsByShard, route_ms: float) -> Iterator[WindowRead]:
    batch_bytes = read.frame.estimated_size()
    for window, by_slot in zip(read.batch.windows, rows.window_rows, strict=True):
        share = int(by_slot.sum()) / max(1, rows.cells.num_rows)
        yield WindowRead(
            window=window,
            rows_by_slot=tuple(by_slot.tolist()),
            bytes=round(batch_bytes * share),
            widened=read.widened,
            read_ms=read.ms * share,
            route_ms=route_ms * share,
            started_at=read.started_at,
        )
