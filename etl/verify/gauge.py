"""How far a verification is: a live bar with rate and time left on a terminal, a line every 30 s elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from etl.runtime import log

_LINE_S = 30.0


class Gauge:
    """Counts the rows read on both sides. A context manager: the bar lives as long as the block."""

    def __init__(self, *, is_shown: bool = True) -> None:
        self._expected = self._rows = 0
        self._started = self._line_at = time.monotonic()
        self._bar = Progress(
            TextColumn("verify"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not is_shown or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("verify", total=1.0, detail="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def expect(self, rows: int) -> None:
        """Says how many rows are to be read, those of the source and those of the shards, by the ledgers."""
        self._expected += rows

    def add(self, rows: int) -> None:
        """Takes in rows that have been compared."""
        self._rows += rows
        done = min(1.0, self._rows / max(1, self._expected))
        now = time.monotonic()
        rate = self._rows / 2 / max(1e-9, now - self._started)
        self._bar.update(self._task, completed=done, detail=f"{rate:,.0f} rows/s")
        if now - self._line_at >= _LINE_S:
            self._line_at = now
            left_s = max(0, self._expected - self._rows) / 2 / max(1e-9, rate)
            log.event("progress", percent=round(done * 100, 1), rows_per_s=round(rate), left_s=round(left_s))
            log.memory()
