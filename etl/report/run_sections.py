"""What an inspection says of the runs that filled the shards: pace, stages, windows, widened columns."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl

from etl.core.model import RowidRange
from etl.report import statistics
from etl.report.charts import Bar, Chart, bars, columns
from etl.report.data import Inspection
from etl.report.exhibits import Words
from etl.report.statistics import Seams

_BUCKETS = 40


def main_run(seen: Inspection) -> pl.DataFrame:
    """The windows of the run that brought the most rows, of those whose times are known."""
    timed = seen.windows.drop_nulls(["started_at", "read_ms", "route_ms", "write_ms"])
    if not timed.height:
        return timed
    biggest = timed.group_by("run_id").agg(pl.col("rows").sum()).sort("rows", "run_id")["run_id"][-1]
    return timed.filter(pl.col("run_id") == biggest)


def throughput_chart(seen: Inspection) -> Chart:
    """Rows a second over the main run; a window's rows count evenly from its reading to its commit."""
    run = main_run(seen)
    starts, ends = _seconds(run["started_at"]), _seconds(run["committed_at"])
    first, last = (starts.min(), ends.max()) if run.height else (0.0, 1.0)
    edges = np.linspace(first, max(last, first + 1e-3), _BUCKETS + 1)
    rates = []
    for low, high in pairwise(edges):
        overlap = np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0, None) / np.maximum(ends - starts, 1e-6)
        rates.append(float((overlap * run["rows"].to_numpy()).sum() / (high - low)))
    return columns(
        "Did the load keep its pace?",
        rates,
        first="start",
        last=f"{last - first:,.1f} s",
        unit="rows/s",
        across="over the run that brought the most rows",
    )


def stages_chart(seen: Inspection) -> Chart:
    """Seconds that each stage of the main run worked."""
    run = main_run(seen)
    items = []
    for stage in ("read", "route", "write"):
        seconds = float(run[f"{stage}_ms"].sum()) / 1000
        items.append(Bar(stage, seconds, f"{seconds:,.1f} s"))
    return bars("Where did the time go?", items, unit="seconds of work; stages overlap in time")


def run_verdict(seen: Inspection) -> Words:
    """The main run in numbers."""
    run = main_run(seen)
    if not run.height:
        return Words("The manifest was rebuilt from the ledgers, which do not know how long a window took.")
    start, end = run["started_at"].min(), run["committed_at"].max()
    seconds = (end - start).total_seconds() if isinstance(start, datetime) and isinstance(end, datetime) else 0.0
    rows = int(run["rows"].sum())
    return Words(
        f"The run that brought the most rows loaded {rows:,} in {seconds:,.1f} s, "
        f"{rows / max(seconds, 1e-3):,.0f} rows/s, in {run.height:,} windows; indexes were built after that. Runs in "
        f"the manifest: {seen.windows['run_id'].n_unique():,}."
    )


def seams(seen: Inspection) -> Seams:
    """Gaps and overlaps between the manifest's windows."""
    return statistics.seams(RowidRange(*row) for row in seen.windows.select("first_rowid", "last_rowid").iter_rows())


def seams_verdict(seen: Inspection) -> Words:
    """Whether the windows follow each other, and whether manifest and ledgers say the same number of rows."""
    found, rows = seams(seen), int(seen.windows["rows"].sum())
    if not found.gaps and not found.overlaps and rows == seen.rows:
        return Words(
            f"**Yes.** {seen.windows.height:,} windows follow each other without gap or overlap, and the manifest and "
            f"the shards' ledgers both say {rows:,} rows. Rows are not counted here: `python -m etl.verify` does that."
        )
    return Words(
        f"**No.** {len(found.gaps):,} gaps, {len(found.overlaps):,} overlaps; the windows have {rows:,} rows, the "
        f"shards' ledgers {seen.rows:,}. Run `python -m etl.migrate` again, which mends the manifest and loads what "
        "is missing."
    )


def widened_verdict(seen: Inspection) -> Words:
    """The columns whose cells did not fit their lane, and since which rowid."""
    spread = seen.windows.select("first_rowid", "widened").drop_nulls().explode("widened", empty_as_null=False)
    if not spread.height:
        return Words("**None.** Every column kept to the storage class of its lane.")
    firsts = spread.group_by("widened").agg(pl.col("first_rowid").min()).sort("widened")
    listed = "; ".join(f"`{name}` from the window at rowid {first:,} on" for name, first in firsts.iter_rows())
    return Words(
        f"**{firsts.height}**: {listed}. Their cells are of more than one storage class and were carried one by one, "
        "exactly; that is slower, and worth a look in the source."
    )


def _seconds(times: pl.Series) -> np.typing.NDArray[np.float64]:
    return times.dt.epoch("us").to_numpy() / 1e6
