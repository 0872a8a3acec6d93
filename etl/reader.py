"""The reader thread: batch by batch from the source, each routed and handed to every writer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from etl import observe, partitioning, sql
from etl.model import RowidRange, ShardMap
from etl.source import Source
from etl.survey import Survey
from etl.transcode import Utf8
from etl.writer import Routed


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


def read_all(
    source: Source,
    survey: Survey,
    shards: ShardMap,
    *,
    report: Callable[[WindowRead], None],
    hand_over: Callable[[Routed], bool],
) -> None:
    """Reads and routes every batch of the survey. `hand_over` says whether to go on."""
    table = source.table
    with closing(Utf8(table.encoding)) as utf8:
        for batch in survey.batches():
            started_at, start = observe.now(), time.perf_counter()
            frame = source.read(batch)
            read = time.perf_counter()
            lanes = source.lanes
            keys = partitioning.keys(frame, table, lanes, utf8=None if table.encoding == "UTF-8" else utf8)
            rows = partitioning.partition(frame, keys, table=table, lanes=lanes, windows=batch.windows, shards=shards)
            routed = time.perf_counter()
            survey.observe(batch, rows.cells.num_rows)
            for window, by_slot in zip(batch.windows, rows.window_rows, strict=True):
                share = int(by_slot.sum()) / max(1, rows.cells.num_rows)
                report(
                    WindowRead(
                        window=window,
                        rows_by_slot=tuple(int(count) for count in by_slot),
                        bytes=round(frame.estimated_size() * share),
                        widened=source.widened,
                        read_ms=(read - start) * 1000 * share,
                        route_ms=(routed - read) * 1000 * share,
                        started_at=started_at,
                    )
                )
            if not hand_over(Routed(batch, rows, sql.insert(table, lanes))):
                return
