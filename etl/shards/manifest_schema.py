"""The columns of the manifest's Parquet files, how a file is read, and the check that each line carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.shards.ledger_arrays import Ledger, window_of

_CHECK = "check"
"""Shows whether a line is as a run wrote it (`checks`); null in lines of older versions."""
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "table_name": pl.String,
    "run_id": pl.String,
    "first_rowid": pl.Int64,
    "last_rowid": pl.Int64,
    "rows": pl.Int64,
    "rows_by_shard": pl.List(pl.Struct({"shard": pl.Int64, "rows": pl.Int64})),
    "bytes": pl.Int64,
    "widened": pl.List(pl.String),
    "read_ms": pl.Float64,
    "route_ms": pl.Float64,
    "write_ms": pl.Float64,
    "started_at": pl.Datetime("us", "UTC"),
    "committed_at": pl.Datetime("us", "UTC"),
    _CHECK: pl.String,
}
SCHEMA = pl.Schema(_COLUMNS)


def read(path: Path, columns: Sequence[str]) -> pl.DataFrame | None:
    """These columns of a manifest file; None where it cannot be read, or has the columns of something else."""
    try:
        stored = _stored_columns(path)
        if stored | {_CHECK: SCHEMA[_CHECK]} != dict(SCHEMA):
            return None
        with path.open("rb") as file:
            frame = pl.read_parquet(file, columns=[name for name in columns if name in stored])
            return pl.concat([SCHEMA.to_frame().select(columns), frame], how="diagonal")
    except (pl.exceptions.PolarsError, OSError):
        return None


def has_checks(path: Path) -> bool:
    """Whether the file has the column of checks, which older versions did not write."""
    return _CHECK in _stored_columns(path)


def _stored_columns(path: Path) -> dict[str, pl.DataType]:
    with path.open("rb") as file:  # Polars would read a path as a pattern
        return dict(pl.read_parquet_schema(file))


def with_checks(lines: pl.DataFrame) -> pl.DataFrame:
    return lines.with_columns(_checks(lines))


def intact(lines: pl.DataFrame) -> pl.Series:
    """Whether each line is as it was written; one without a check counts as intact."""
    return (lines[_CHECK] == _checks(lines)).fill_null(value=True)


def _checks(lines: pl.DataFrame) -> pl.Series:
    """For each line 16 hexadecimal digits of the SHA-256 of its other cells, as JSON."""
    rows = (json.dumps(row, default=str).encode() for row in lines.drop(_CHECK).iter_rows())
    return pl.Series(_CHECK, [hashlib.sha256(row).hexdigest()[:16] for row in rows], dtype=pl.String)


def without_overlaps(lines: pl.DataFrame) -> pl.DataFrame:
    """The lines in ascending order, each window once.

    Of a line within another the larger one stands: it was joined from them. Lines that overlap otherwise are wrong.
    """
    lines = lines.sort("first_rowid", "last_rowid", descending=[False, True], maintain_order=True)
    before = pl.col("last_rowid").cum_max().shift(1)
    lines = lines.filter((pl.col("last_rowid") > before).fill_null(value=True))
    overlaps_next = pl.col("first_rowid").shift(-1) <= pl.col("last_rowid")
    overlaps_before = pl.col("first_rowid") <= pl.col("last_rowid").shift(1)
    return lines.filter(~(overlaps_next.fill_null(value=False) | overlaps_before.fill_null(value=False)))


def joined(lines: pl.DataFrame, windows: Ledger) -> pl.DataFrame:
    """The lines, those that make up one of the windows as one: sums, the first run, the last commit.

    What some of its lines do not know is null in a joined line. Lines that were edited are not joined.
    """
    first, last = lines["first_rowid"].to_numpy(), lines["last_rowid"].to_numpy()
    at = window_of(windows.first, windows.last, first)
    shards = lines["rows_by_shard"].list.len()
    is_sound = (intact(lines) & (shards == shards.max())).fill_null(value=False).to_numpy()
    unsound = np.bincount(at[(at >= 0) & ~is_sound], minlength=len(windows.first))
    count = np.bincount(at[at >= 0], minlength=len(windows.first))
    is_whole = Ledger(first, last, np.ones(len(first), np.int64)).rows_between(windows.first, windows.last) == count
    is_joined = ((count > 1) & (unsound == 0) & is_whole)[at] & (at >= 0)
    old, kept = lines.with_columns(window=at).filter(is_joined), lines.filter(~is_joined)
    if not old.height:
        return lines
    starts = np.flatnonzero(np.diff(old["window"].to_numpy(), prepend=-1))
    by_shard = old["rows_by_shard"].explode(empty_as_null=False).struct.unnest()
    rows = np.add.reduceat(by_shard["rows"].to_numpy().reshape(old.height, -1), starts, axis=0)
    numbers = by_shard["shard"].to_numpy()[: rows.shape[1]]
    sums = pl.DataFrame(
        {
            "window": np.repeat(old["window"].to_numpy()[starts], len(numbers)),
            "shard": np.tile(numbers, len(starts)),
            "rows": rows.ravel(),
        }
    )
    lists = sums.group_by("window", maintain_order=True).agg(rows_by_shard=pl.struct("shard", "rows"))
    new = old.group_by("window", maintain_order=True).agg(
        pl.col("table_name", "first_rowid").first(),
        pl.col("last_rowid").last(),
        pl.col("rows").sum(),
        pl.col("run_id").min(),
        pl.col("started_at").min(),
        pl.col("committed_at").max(),
        pl.when(pl.col("widened").is_not_null().all()).then(
            pl.col("widened").explode(empty_as_null=False).unique(maintain_order=True).implode()
        ),
        *(
            pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).sum())
            for name in ("bytes", "read_ms", "route_ms", "write_ms")
        ),
        pl.lit(None, pl.String).alias(_CHECK),
    )
    new = new.join(lists, on="window", maintain_order="left").select(SCHEMA.names()).cast(SCHEMA)
    return pl.concat([kept, with_checks(new)]).sort("first_rowid")


def ledger_facts(line: dict[str, Any]) -> tuple[Any, ...]:
    """The part of a line that the ledgers know too."""
    by_shard = tuple((each["shard"], each["rows"]) for each in line["rows_by_shard"])
    return line["first_rowid"], line["last_rowid"], line["rows"], by_shard
