"""The reader thread: reads task after task, routes the rows, and sends them to every writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from etl.core import partition
from etl.core.columns import widened_columns
from etl.core.model import ReadTask, RowidRange, ShardMap
from etl.engines.writer import Routed
from etl.sources import row_stream
from etl.sources.chunker import Chunker
from etl.sources.reader import ReadResult, Source
from etl.sqlite import sql
from etl.sqlite.utf16 import utf8_converter


@dataclass(frozen=True, slots=True)
class WindowRead:
    """What it took to read and route one window: its share, by rows, of a read task."""

    window: RowidRange
    rows_by_slot: tuple[int, ...]
    bytes: int
    widened: tuple[str, ...]
    """Columns that are wider than they started."""
    read_ms: float
    route_ms: float
    started_at: datetime


def run(
    source: Source,
    chunker: Chunker,
    shards: ShardMap,
    *,
    admit: Callable[[ReadTask], None],
    report: Callable[[WindowRead], None],
    send: Callable[[Routed], bool],
) -> None:
    """Reads and routes every task, one read ahead.

    `admit` returns when there is memory for a task; `send` says whether to go on.
    """
    table = source.table
    results = row_stream.ahead(row_stream.read_all(source, chunker, admit=admit))
    with utf8_converter(table.encoding) as utf8, closing(results):
        for result in results:
            start = time.perf_counter()
            rows = partition.split_by_shard(
                result.frame,
                partition.keys(result.frame, table, result.read_types, utf8=utf8),
                table=table,
                read_types=result.read_types,
                windows=result.task.windows,
                shards=shards,
            )
            route_ms = (time.perf_counter() - start) * 1000
            for window_read in _by_window(result, rows, widened_columns(table, result.read_types), route_ms):
                report(window_read)
            routed = Routed(result.task, rows, sql.insert(table, result.read_types))
            del result, rows
            if not send(routed):
                return
            del routed


def _by_window(
    result: ReadResult, rows: partition.RowsByShard, widened: tuple[str, ...], route_ms: float
) -> Iterator[WindowRead]:
    frame_bytes = result.frame.estimated_size()
    for window, by_slot in zip(result.task.windows, rows.window_rows, strict=True):
        share = int(by_slot.sum()) / max(1, rows.cells.num_rows)
        yield WindowRead(
            window=window,
            rows_by_slot=tuple(by_slot.tolist()),
            bytes=round(frame_bytes * share),
            widened=widened,
            read_ms=result.ms * share,
            route_ms=route_ms * share,
            started_at=result.started_at,
        )
