"""A forecast as people read it, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table as RichTable

from etl.migrate.plan.plan import Forecast
from etl.migrate.plan.sample import Count
from etl.status.progress_bar import size, span

_MOST_COLUMNS = 40
"""Of more columns those that travel the exact way are shown."""


def show(forecast: Forecast) -> None:
    """Prints the forecast to standard output; the refusals are for the caller."""
    console = Console(highlight=False)
    for line in _lines(forecast):
        console.print(line, markup=False, soft_wrap=True)
    if forecast.columns:
        console.print(_columns(forecast))
    for warning in forecast.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    verdict = "a run would be refused; each reason is an error below" if forecast.refusals else "a run may start"
    console.print(f"plan: {verdict}; nothing was touched", markup=False, soft_wrap=True)


def _lines(forecast: Forecast) -> Iterator[str]:
    yield f"{forecast.table} from {forecast.source} into {forecast.shard_dir}"
    if forecast.rows is None or forecast.rows_todo is None:
        return
    yield f"  rows: {_count(forecast.rows)}"
    yield f"  to do: {_count(forecast.rows_todo)}; windows: {forecast.windows_todo:,}"
    key = forecast.key
    if key is not None:
        lengths = f"{key.shortest} to {key.longest} characters" if key.longest else "none in the sample"
        yield (
            f"  key: {key.name}, affinity {key.affinity}; NULL {key.null:.1%}, empty {key.empty:.1%}, "
            f"blank {key.blank:.1%}; {lengths}"
        )
    if forecast.bytes_todo is not None and forecast.free_bytes is not None:
        yield f"  disk: some {size(forecast.bytes_todo)} more, indexes included; {size(forecast.free_bytes)} are free"
        for shard, count in _extremes(forecast.shards):
            yield f"    shard {shard}: some {size(count)} afterwards"
    if forecast.load_s is not None and forecast.index_s is not None:
        total = forecast.load_s + forecast.index_s
        yield (
            f"  time: some {_time(total)} (load {_time(forecast.load_s)}, indexes {_time(forecast.index_s)}), reckoned "
            f"from {forecast.trial_rows:,} rows moved in memory: a slow disk adds to it"
        )
    yield f"  lanes, by a sample of {forecast.sampled_rows:,} rows spread over the table:"


def _count(count: Count) -> str:
    return f"{count.rows:,} (counted)" if count.is_exact else f"about {count.rows:,} (estimated)"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else span(seconds)  # noqa: PLR2004 - a minute


def _extremes(shards: dict[int, int]) -> list[tuple[int, int]]:
    """The smallest and the largest shard."""
    ordered = sorted(shards.items(), key=lambda pair: pair[1])
    return ordered if len(ordered) < 3 else [ordered[0], ordered[-1]]  # noqa: PLR2004 - two are all


def _columns(forecast: Forecast) -> RichTable:
    columns = forecast.columns
    title = None
    if len(columns) > _MOST_COLUMNS:
        columns = [each for each in columns if each.read_type == "variant"][:_MOST_COLUMNS]
        title = f"{len(columns)} of {len(forecast.columns)} columns that travel the exact way; --json has all"
    table = RichTable(title=title)
    for name in ("column", "lane", "why", "storage classes"):
        table.add_column(name, overflow="fold")
    for each in columns:
        classes = ", ".join(f"{name} {share:.1%}" for name, share in each.classes.items())
        table.add_row(each.name, each.read_type, each.why, classes)
    return table
