"""The totals of a run by shard and by stage, for its terminal; and how a table of many shards is cut."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table as RichTable

from etl.runtime.console import tolerate_closed
from etl.status.status_file import RunStatus
from etl.status.units import size

_MOST_SHARDS = 32

_MEANINGS = {
    "read": "from the source, summed over threads",
    "route": "hashing, and sorting by shard",
    "write": "into the shards, summed over threads",
    "load": "elapsed: the three above, in parallel",
    "index": "elapsed: indexes, statistics, WAL",
}

T = TypeVar("T")


def show(status: RunStatus) -> None:
    """Prints the totals to standard error if that is a terminal, so they are not in the mails of cron."""
    if sys.stderr.isatty() and status.rows:
        with tolerate_closed(sys.stderr):
            console = Console(stderr=True)
            console.print(_by_shard(status))
            console.print(_by_stage(status))


def extremes(shards: Sequence[T], rows: Callable[[T], int], *, title: str, hint: str = "") -> tuple[Sequence[T], str]:
    """Of many shards only the smallest and the largest, and the title of their table."""
    if len(shards) <= _MOST_SHARDS:
        return shards, title
    ordered = sorted(shards, key=rows)
    shown = [*ordered[: _MOST_SHARDS // 4], *ordered[-_MOST_SHARDS // 4 :]]
    return shown, f"{title}: the smallest and the largest of {len(ordered)}{hint}"


def _by_shard(status: RunStatus) -> RichTable:
    shards, title = extremes(status.shards, lambda shard: shard.rows, title="totals by shard")
    table = RichTable(title=title)
    for name in ("shard", "rows", "size", "s writing"):
        table.add_column(name, justify="right")
    for shard in shards:
        table.add_row(str(shard.shard), f"{shard.rows:,}", size(shard.bytes), f"{shard.write_s:.2f}")
    table.add_section()
    every = status.shards
    table.add_row(
        "all",
        f"{sum(shard.rows for shard in every):,}",
        size(sum(shard.bytes for shard in every)),
        f"{sum(shard.write_s for shard in every):.2f}",
    )
    return table


def _by_stage(status: RunStatus) -> RichTable:
    table = RichTable(title="totals by stage")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("of")
    for stage, meaning in _MEANINGS.items():
        if stage in status.seconds:
            table.add_row(stage, f"{status.seconds[stage]:.2f}", meaning)
    return table
