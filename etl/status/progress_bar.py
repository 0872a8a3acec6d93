"""The run on a terminal of 80 columns: a bar, and beneath it what it is made of. Gone when the run ends."""

from __future__ import annotations

import os
import sys
import time
from typing import Self

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from etl.status.progress import INDEX, Progress

_BAR_COLUMNS = 36


class Display:
    """A context manager that draws the tally while its block runs, where standard error is a terminal."""

    def __init__(self, tally: Progress) -> None:
        self._tally = tally
        self._process = psutil.Process()
        self.is_live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._console = Console(stderr=True)
        self._live = Live(
            get_renderable=self._drawn, console=self._console, refresh_per_second=4, transient=True, auto_refresh=True
        )

    def __enter__(self) -> Self:
        if self.is_live:
            self._live.start()
            self._console.show_cursor()  # a run that is aborted has no chance to give it back
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_live:
            self._live.stop()

    def _drawn(self) -> Group:
        tally, now_s = self._tally, time.monotonic()
        head = RichTable.grid(padding=(0, 1))
        head.add_row(
            Text(f"{tally.phase:<5}", style="bold"),
            ProgressBar(total=1.0, completed=tally.fraction, width=_BAR_COLUMNS),
            f"{tally.percent:5.1f} %",
            left(tally.eta_s(now_s)),
        )
        return Group(head, *(Text("      " + line, no_wrap=True, overflow="ellipsis") for line in self._lines(now_s)))

    def _lines(self, now_s: float) -> list[str]:
        tally = self._tally
        memory = self._process.memory_info().rss
        first = [f"{tally.rows_written:,} rows", f"{tally.rows_per_s(now_s):,.0f} rows/s", size(tally.bytes)]
        if tally.phase == INDEX:
            second = [f"{tally.indexed} of {len(tally.shard_rows)} shards indexed"]
        else:
            second = [f"{tally.in_flight} windows in flight"]
            slowest = tally.slowest_shard
            if slowest is not None:
                second.append(f"slowest shard {slowest}: {tally.shard_write_s[slowest]:.1f} s")
        return [" · ".join(first), " · ".join([*second, f"memory {size(memory)}"])]


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - decimal units
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def span(seconds: float) -> str:
    """A length of time as people read it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def left(seconds: float | None) -> str:
    """How long it will yet take."""
    return "" if seconds is None else f"{span(seconds)} left"
