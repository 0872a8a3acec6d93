"""The run as it goes on: a live bar on a terminal, a line every 30 s elsewhere, memory and garbage on their ticks."""

from __future__ import annotations

import time
from typing import Self

from etl.runtime import log
from etl.shards.manifest import Entry
from etl.status.progress import Progress
from etl.status.progress_bar import Display, left

MEMORY_S = 30.0


class Watch:
    """Keeps a run's tally and shows it. A context manager: the display lives as long as the block."""

    def __init__(self, tally: Progress, *, garbage_ticker_minutes: float) -> None:
        self._tally = tally
        self._garbage_s = garbage_ticker_minutes * 60
        self._memory_at = self._garbage_at = time.monotonic()
        self._display = Display(tally)

    @property
    def rows(self) -> int:
        """Rows that this run has brought."""
        return self._tally.rows

    @property
    def windows(self) -> int:
        """Windows that this run has completed."""
        return self._tally.windows

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.__exit__()

    def window(self, entry: Entry) -> None:
        """Takes in a window that every shard has committed."""
        self._tally.window(entry)
        log.event(
            "window",
            first_rowid=entry.window.first_rowid,
            last_rowid=entry.window.last_rowid,
            rows=sum(rows for _, rows in entry.rows_by_shard),
            rows_per_s=self._rows_per_s,
            bytes=entry.bytes,
            read_ms=_rounded(entry.read_ms),
            route_ms=_rounded(entry.route_ms),
            write_ms=_rounded(entry.write_ms),
        )

    def read(self, rows: int, rowids: int, size: int) -> None:
        """Takes in a window that has been read."""
        self._tally.read(rows, rowids, size)

    def wrote(self, shard: int, *, rows: int, rowids: float, ms: float) -> None:
        """Takes in what one shard has committed, and how long that took."""
        self._tally.wrote(shard, rows=rows, rowids=rowids, ms=ms)

    def tick(self, *, in_flight: int = 0) -> None:
        """Takes in how many windows are on their way, and does what is due by the clock."""
        tally, now_s = self._tally, time.monotonic()
        tally.in_flight = in_flight
        if now_s - self._memory_at >= MEMORY_S:
            self._memory_at = now_s
            log.event(
                "progress",
                "DEBUG" if self._display.is_live else "INFO",  # the bar says it already
                phase=tally.phase,
                percent=tally.percent,
                rows=tally.rows_written,
                rows_per_s=self._rows_per_s,
                eta=left(tally.eta_s(now_s)) or "unknown",
            )
            log.memory()
        if now_s - self._garbage_at >= self._garbage_s:
            self._garbage_at = now_s
            log.collect_garbage()

    @property
    def _rows_per_s(self) -> int:
        return round(self._tally.rows_per_s(time.monotonic()))


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)
