"""What a run came to, by shard and by stage, for the terminal it was started from."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table as RichTable

from etl.status.progress import Progress
from etl.status.progress_bar import size

_MOST_SHARDS = 32
"""Of more shards the largest and the smallest are shown."""

_MEANINGS = {
    "read": "from the source, over all threads",
    "route": "hashing and sorting by shard",
    "write": "into the shards, over all threads",
    "load": "passed: the three above, side by side",
    "index": "passed: indexes, statistics, WAL",
}


def show(tally: Progress) -> None:
    """Prints the totals to standard error where that is a terminal; a cron mail is spared them."""
    if sys.stderr.isatty() and tally.rows:
        console = Console(stderr=True)
        console.print(by_shard(tally))
        console.print(by_stage(tally))


def by_shard(tally: Progress) -> RichTable:
    """Rows, bytes and writing time of the shards."""
    sizes = {shard: path.stat().st_size for shard, path in tally.paths.items() if path.exists()}
    shards = list(tally.shard_rows)
    title = "totals by shard"
    if len(shards) > _MOST_SHARDS:
        ordered = sorted(shards, key=tally.shard_rows.__getitem__)
        shards = [*ordered[: _MOST_SHARDS // 4], *ordered[-_MOST_SHARDS // 4 :]]
        title = f"totals by shard: the smallest and the largest of {len(ordered)}"
    table = RichTable(title=title)
    for name in ("shard", "rows", "size", "s writing"):
        table.add_column(name, justify="right")
    for shard in shards:
        table.add_row(
            str(shard),
            f"{tally.shard_rows[shard]:,}",
            size(sizes.get(shard, 0)),
            f"{tally.shard_write_s.get(shard, 0.0):.2f}",
        )
    table.add_section()
    table.add_row(
        "all",
        f"{sum(tally.shard_rows.values()):,}",
        size(sum(sizes.values())),
        f"{sum(tally.shard_write_s.values()):.2f}",
    )
    return table


def by_stage(tally: Progress) -> RichTable:
    """Seconds of each stage, and what they are seconds of."""
    table = RichTable(title="totals by stage")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("of")
    for stage, meaning in _MEANINGS.items():
        if stage in tally.seconds:
            table.add_row(stage, f"{tally.seconds[stage]:.2f}", meaning)
    return table
