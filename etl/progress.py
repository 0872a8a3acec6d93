"""The run as it goes on: a live bar on a terminal, a line every 30 s elsewhere, memory and garbage on their ticks."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from etl import observe
from etl.manifest import Entry
from etl.plan import Todo

MEMORY_S = 30.0


class Watch:
    """Counts the windows of one load and shows them. A context manager: the bar lives as long as the block."""

    def __init__(self, todo: Todo, *, total_rows: int | None, garbage_ticker_minutes: float) -> None:
        self.rows = 0
        self.windows = 0
        self._spans_done = 0
        self._spans = todo.span
        self._total_rows = total_rows
        self._garbage_s = garbage_ticker_minutes * 60
        self._started = self._memory_at = self._garbage_at = time.monotonic()
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("load", total=1.0, detail="")

    @property
    def fraction(self) -> float:
        """How much is done, from 0 to 1: by rows where TOTAL_ROWS says how many there are, else by rowids."""
        done, total = (self.rows, self._total_rows) if self._total_rows else (self._spans_done, self._spans)
        return min(1.0, done / max(1, total))

    @property
    def rows_per_s(self) -> int:
        """Rows committed in every shard, over the time since the start."""
        return round(self.rows / max(1e-9, time.monotonic() - self._started))

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def window(self, entry: Entry) -> None:
        """Takes in a window that every shard has committed."""
        rows = sum(rows for _, rows in entry.rows_by_shard)
        self.rows += rows
        self.windows += 1
        self._spans_done += entry.window.span
        observe.event(
            "window",
            first_rowid=entry.window.first_rowid,
            last_rowid=entry.window.last_rowid,
            rows=rows,
            rows_per_s=self.rows_per_s,
            bytes=entry.bytes,
            read_ms=_rounded(entry.read_ms),
            route_ms=_rounded(entry.route_ms),
            write_ms=_rounded(entry.write_ms),
        )

    def tick(self) -> None:
        """Shows where the load is, and does what is due by the clock."""
        now = time.monotonic()
        self._bar.update(self._task, completed=self.fraction, detail=f"{self.rows:,} rows  {self.rows_per_s:,} rows/s")
        if now - self._memory_at >= MEMORY_S:
            self._memory_at = now
            observe.event("progress", percent=round(self.fraction * 100, 1), rows=self.rows, rows_per_s=self.rows_per_s)
            observe.memory()
        if now - self._garbage_at >= self._garbage_s:
            self._garbage_at = now
            observe.collect_garbage()


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)
