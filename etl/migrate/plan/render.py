"""The plan as text, for a terminal of 80 columns."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table as RichTable

from etl.migrate.plan.plan import Plan
from etl.migrate.plan.sample import Count
from etl.runtime.console import print_result, tolerate_closed
from etl.status.units import counted, percent, size, span

_MAX_COLUMNS = 40
"""If there are more columns, only the variants are shown."""


def show(plan: Plan) -> None:
    """Prints the plan to standard output, without its refusals."""
    print_result("\n".join(_lines(plan)))
    if plan.columns:
        with tolerate_closed(sys.stdout):
            Console(highlight=False).print(_columns(plan))
    verdict = "a run would be refused; each reason is an error below" if plan.refusals else "a run may start"
    print_result("\n".join([*(f"warning: {each}" for each in plan.warnings), f"plan: {verdict}; nothing was touched"]))


def _lines(plan: Plan) -> Iterator[str]:
    yield f"{plan.table} from {plan.source} into {plan.shard_dir}"
    if plan.rows is None or plan.rows_todo is None:
        return
    yield f"  rows: {_count(plan.rows)}"
    yield f"  to do: {_count(plan.rows_todo)} in {counted(plan.windows_todo or 0, 'window')}"
    key = plan.key
    if key is not None:
        shortest = "" if key.shortest == key.longest else f"{key.shortest} to "
        lengths = f"{shortest}{key.longest} characters" if key.longest else "no other in the sample"
        sampled = f" (of {plan.sampled_rows:,} sampled rows)" if plan.sampled_rows < plan.rows.rows else ""
        yield (
            f"  key: {key.name}, affinity {key.affinity}; NULL {percent(key.null)}, empty {percent(key.empty)}, "
            f"blank {percent(key.blank)}{sampled}; {lengths}"
        )
    if plan.cursor_is_indexed:
        yield f"  cursor: {plan.cursor_column}, with an index of the source"
    if plan.bytes_todo is not None and plan.free_bytes is not None:
        yield f"  disk: about {size(plan.bytes_todo)} needed, with indexes; {size(plan.free_bytes)} free"
        for shard, count in _extremes(plan.shards):
            yield f"    shard {shard}: about {size(count)} after the run"
        for name, count in plan.indexes.items():
            change = plan.index_changes.get(name, "")
            yield f"    index {name}: about {size(count)} in all shards{change and f', {change}'}"
        for name in sorted(plan.index_changes.keys() - plan.indexes.keys()):
            yield f"    index {name}: dropped"
    if plan.load_s is not None and plan.index_s is not None:
        total = plan.load_s + plan.index_s
        yield (
            f"  time: about {_time(total)} (load {_time(plan.load_s)}, indexes {_time(plan.index_s)}), estimated from "
            f"a trial load of {counted(plan.trial_rows, 'row')} in memory; a slow disk takes longer"
        )
    yield f"  read types, from a sample of {counted(plan.sampled_rows, 'row')} spread over the table:"


def _count(count: Count) -> str:
    return f"{count.rows:,} (counted)" if count.is_exact else f"about {count.rows:,} (estimated)"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else span(seconds)  # noqa: PLR2004 - a minute


def _extremes(shards: dict[int, int]) -> list[tuple[int, int]]:
    """The smallest and the largest shard."""
    ordered = sorted(shards.items(), key=lambda pair: pair[1])
    return ordered if len(ordered) < 3 else [ordered[0], ordered[-1]]  # noqa: PLR2004 - two are all


def _columns(plan: Plan) -> RichTable:
    columns = plan.columns
    title = None
    if len(columns) > _MAX_COLUMNS:
        columns = [each for each in columns if each.read_type == "variant"][:_MAX_COLUMNS]
        title = f"{len(columns)} of {len(plan.columns)} columns, only variants; --json has all"
    table = RichTable(title=title)
    for name in ("column", "read type", "why", "storage classes"):
        table.add_column(name, overflow="fold")
    for each in columns:
        classes = ", ".join(f"{name} {percent(share)}" for name, share in each.classes.items())
        table.add_row(each.name, each.read_type, each.why, classes)
    return table
