"""The columns of the manifest's Parquet files, how a file is read, and the check that each line carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

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


def ledger_facts(line: dict[str, Any]) -> tuple[Any, ...]:
    """The part of a line that the ledgers know too."""
    by_shard = tuple((each["shard"], each["rows"]) for each in line["rows_by_shard"])
    return line["first_rowid"], line["last_rowid"], line["rows"], by_shard
