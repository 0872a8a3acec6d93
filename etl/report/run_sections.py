"""Sentences and charts about the runs that filled the shards: speed, stages, windows, widened columns."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl

from etl.core.model import RowidRange
from etl.report import statistics
from etl.report.charts import Bar, Chart, bars, columns
from etl.report.data import Inspection
from etl.report.html import Markdown
from etl.runtime import log
from etl.status.units import counted, span

_BUCKETS = 40


def main_run(inspection: Inspection) -> pl.DataFrame:
    """The windows of the run that loaded the most rows; only windows whose times are known."""
    timed = inspection.windows.drop_nulls(["started_at", "read_ms", "route_ms", "write_ms"])
    if not timed.height:
        return timed
    biggest = timed.group_by("run_id").agg(pl.col("rows").sum()).sort("rows", "run_id")["run_id"][-1]
    return timed.filter(pl.col("run_id") == biggest)


def throughput_chart(inspection: Inspection) -> Chart:
    """Rows a second during the main run; those of a read count evenly until the next read begins, or to the end."""
    run = main_run(inspection)
    reads = run.group_by("started_at").agg(pl.col("rows").sum()).sort("started_at")
    starts = _seconds(reads["started_at"])
    first, last = (starts.min(), _seconds(run["committed_at"]).max()) if run.height else (0.0, 1.0)
    ends = np.append(starts[1:], last)
    edges = np.linspace(first, max(last, first + 1e-3), _BUCKETS + 1)
    rates = []
    for low, high in pairwise(edges):
        overlap = np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0, None) / np.maximum(ends - starts, 1e-6)
        rates.append(float((overlap * reads["rows"].to_numpy()).sum() / (high - low)))
    return columns(
        "Was the speed of the load constant?",
        rates,
        first="start",
        last=f"{last - first:,.1f} s",
        unit="rows/s",
        across="over the run that read the most rows",
    )


def stages_chart(inspection: Inspection) -> Chart:
    """Seconds of work in each stage of the main run."""
    run = main_run(inspection)
    items = []
    for stage in ("read", "route", "write"):
        seconds = float(run[f"{stage}_ms"].sum()) / 1000
        items.append(Bar(stage, seconds, f"{seconds:,.1f} s"))
    return bars("How long did each stage take?", items, unit="seconds of work; stages overlap in time")


def proof(inspection: Inspection) -> Markdown:
    """When a verification last compared all rows and found them equal, and what is known since."""
    found, last = inspection.last_full_proof, inspection.verifications
    if found is None:
        text = "**Never.** No verification has compared all rows and found them equal: run `python -m etl.verify`."
    else:
        text = (
            f"**{_moment(found.finished_at)}**: all {counted(found.rows, 'row')} of the source were compared with the "
            "shards' and were equal."
        )
        if inspection.rows != found.rows:
            text += f" Now the shards' ledgers record {inspection.rows:,}."
        if inspection.is_source_unchanged is not None:
            changed = "has not changed" if inspection.is_source_unchanged else "has changed"
            text += f" The source's file {changed} since that verification began."
    ended, code = last["last_verification_at"], last["last_verification_exit_code"]
    if ended and not (found and ended == found.finished_at):
        result = f"exit code {code}, {counted(last['rows_differing'] or 0, 'differing row')}"
        text += f" The last verification: {f'**{result}**' if code else result}, {_moment(ended)}."
    sampled = int(inspection.shards["sampled"].sum())
    if seal := inspection.found.identity.seal:
        text += f" **Sealed {_moment(seal.sealed_at)}**: since then applications write to the shards."
    elif not inspection.is_sampled and sampled != inspection.rows:
        text += (
            f" **The shards' ledgers record {counted(inspection.rows, 'row')}, but their files have {sampled:,}**: run "
            "`python -m etl.verify`, which says which differ."
        )
    return Markdown(text)


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{moment:%Y-%m-%d %H:%M} UTC, {span((log.now() - moment).total_seconds())} before this page was written"


def run_verdict(inspection: Inspection) -> Markdown:
    run = main_run(inspection)
    if not run.height:
        return Markdown("The manifest was rebuilt from the ledgers, which do not record how long a window took.")
    start, end = run["started_at"].min(), run["committed_at"].max()
    seconds = (end - start).total_seconds() if isinstance(start, datetime) and isinstance(end, datetime) else 0.0
    rows, last = int(run["rows"].sum()), inspection.last_run
    whole = (
        f" With indexes it wrote {counted(last.rows, 'row')} at {last.rows_per_s:,.0f} rows/s."
        if last and last.run_id == run["run_id"][0]
        else ""
    )
    return Markdown(
        f"The run that read the most rows, by the manifest: {rows:,} in {seconds:,.1f} s "
        f"({rows / max(seconds, 1e-3):,.0f} rows/s) in {counted(run.height, 'window')}, without the time for "
        f"indexes.{whole} Runs in the manifest: {inspection.windows['run_id'].n_unique():,}."
    )


def windows_verdict(inspection: Inspection) -> Markdown:
    """Whether the windows follow each other, and whether manifest and ledgers record the same number of rows."""
    windows, rows = inspection.windows.select("first_rowid", "last_rowid"), int(inspection.windows["rows"].sum())
    gaps, overlaps = statistics.gaps_and_overlaps(RowidRange(*row) for row in windows.iter_rows())
    if not gaps and not overlaps and rows == inspection.rows:
        return Markdown(
            f"**Yes.** {counted(windows.height, 'window')} without gap or overlap. The manifest and the "
            f"shards' ledgers both record {counted(rows, 'row')}. `python -m etl.verify` counts the rows themselves."
        )
    return Markdown(
        f"**No.** {counted(len(gaps), 'gap')}, {counted(len(overlaps), 'overlap')}. The windows have "
        f"{counted(rows, 'row')}, the shards' ledgers {inspection.rows:,}. Run `python -m etl.migrate` again: it "
        "repairs the manifest and loads what is missing."
    )


def widened_verdict(inspection: Inspection) -> Markdown:
    """The columns with cells that did not fit their read type, and the rowid of the first such window."""
    known = inspection.windows.select("first_rowid", "widened").drop_nulls()
    spread = known.explode("widened", empty_as_null=False)
    if not spread.height:
        if known.height < inspection.windows.height:
            return Markdown(
                f"**Not known.** The manifest names none for {counted(known.height, 'window')}. The others were "
                "rebuilt from the ledgers, which do not record it."
            )
        return Markdown("**None**, by the manifest: every cell fitted the read type of its column when it was loaded.")
    firsts = spread.group_by("widened").agg(pl.col("first_rowid").min()).sort("widened")
    listed = "; ".join(f"`{name}` from the window at rowid {first:,} on" for name, first in firsts.iter_rows())
    return Markdown(
        f"**{counted(firsts.height, 'column')}**: {listed}. From there on each cell was copied exactly, with its own "
        "storage class. This is slower: check whether the data in the source is as intended."
    )


def _seconds(times: pl.Series) -> np.typing.NDArray[np.float64]:
    return times.dt.epoch("us").to_numpy() / 1e6
