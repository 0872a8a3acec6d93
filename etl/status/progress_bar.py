"""Progress as it goes on: a bar on a terminal, a log line every 30 s; also memory and garbage collections."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Self

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table as RichTable
from rich.text import Text

from etl.runtime import log
from etl.status.progress import INDEX, VERIFY, Progress
from etl.status.units import counted, left, read_and_written, size

LINE_S = 30.0
_BAR_COLUMNS = 36


class ProgressBar:
    """Shows progress while its block runs; the bar needs 80 columns and is erased at the end."""

    def __init__(self, progress: Progress, *, garbage_minutes: float = math.inf) -> None:
        self._progress = progress
        self._garbage_s = garbage_minutes * 60
        self._line_at = self._garbage_at = time.monotonic()
        self._process = psutil.Process()
        self._is_live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._console = Console(stderr=True)
        self._live = Live(get_renderable=self._drawn, console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
            self._console.show_cursor()  # a run that is aborted cannot show it again
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._live.stop()

    def begin_verification(self, rows: int) -> None:
        self._progress.begin_verification(now_s=time.monotonic(), rows=rows)

    def compared(self, rows: int) -> None:
        """Counts rows that a verification has compared."""
        self._progress.compared(rows)
        self.tick()

    def tick(self) -> None:
        """Logs the progress, and frees memory, when it is time for that."""
        progress, now_s = self._progress, time.monotonic()
        if now_s - self._line_at >= LINE_S:
            self._line_at = now_s
            log.event(
                "progress",
                "DEBUG" if self._is_live else "INFO",  # the bar shows it already
                phase=progress.phase,
                percent=progress.percent,
                rows=progress.rows_done,
                read=progress.rows_read,
                rows_per_s=round(progress.rows_per_s(now_s)),
                eta=left(progress.eta_s(now_s)) or "unknown",
            )
            log.memory()
        if now_s - self._garbage_at >= self._garbage_s:
            self._garbage_at = now_s
            log.collect_garbage()

    def _drawn(self) -> Group:
        progress, now_s = self._progress, time.monotonic()
        head = RichTable.grid(padding=(0, 1))
        head.add_row(
            Text(f"{progress.phase:<5}", style="bold"),
            Bar(total=1.0, completed=progress.fraction, width=_BAR_COLUMNS),
            f"{progress.percent:5.1f} %",
            left(progress.eta_s(now_s)),
        )
        return Group(head, *(Text("      " + line, no_wrap=True, overflow="ellipsis") for line in self._lines(now_s)))

    def _lines(self, now_s: float) -> list[str]:
        progress = self._progress
        rows = read_and_written(progress.rows_read, progress.rows_done, "row")
        first = [rows, f"{progress.rows_per_s(now_s):,.0f} rows/s"]
        memory = f"memory {size(self._process.memory_info().rss)}"
        if progress.phase == VERIFY:
            return [" · ".join([*first, memory])]
        first.append(size(progress.bytes))
        if progress.phase == INDEX:
            second = [f"{progress.indexed} of {counted(len(progress.shard_rows), 'shard')} indexed"]
        else:
            second = [f"{counted(progress.windows_in_flight, 'window')} in flight"]
            slowest = progress.slowest_shard
            if slowest is not None:
                second.append(f"slowest shard {slowest}: {progress.shard_write_s[slowest]:.1f} s")
        return [" · ".join(first), " · ".join([*second, memory])]
