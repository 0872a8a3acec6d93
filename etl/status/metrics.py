"""The run's metrics in Prometheus' text format, for a file that node_exporter's textfile collector reads."""

from __future__ import annotations

import platform
import stat
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from etl.runtime import files
from etl.status.status_file import RUNNING, State

_PREFIX = "shard_migrate_"
_MODE = 0o600
"""Of a new file. The collector is often another user: whoever opens the file to it decides that, and a run keeps it."""

_GAUGES: dict[str, str] = {
    "run_rows": "Rows that the last run has brought into the shards",
    "run_windows": "Windows that the last run has completed",
    "run_bytes": "Bytes of cells that the last run has read",
    "progress_ratio": "How much of the last run is done, load and indexes together, from 0 to 1",
    "running": "1 while a run is at work; see updated_timestamp_seconds for whether it lives",
    "updated_timestamp_seconds": "When this file was written",
    "last_attempt_timestamp_seconds": "When the last run began",
    "last_success_timestamp_seconds": "When a run last ended with exit code 0; 0 before the first",
    "last_exit_code": "Exit code of the last run; absent while one is at work",
    "lag_rows": "Rows of the source above the shards' last one, when the last run ended; absent while one is at work",
    "resident_memory_bytes": "Memory of the run's process",
}


def text(state: State, version: str) -> bytes:
    """The state as metrics. What is not known is left out, never 0."""
    registry = CollectorRegistry()
    values: dict[str, float | None] = {
        "run_rows": state.rows,
        "run_windows": state.windows,
        "run_bytes": state.bytes,
        "progress_ratio": state.fraction,
        "running": state.outcome == RUNNING,
        "updated_timestamp_seconds": _seconds(state.updated_at),
        "last_attempt_timestamp_seconds": _seconds(state.started_at),
        "last_success_timestamp_seconds": _seconds(state.last_success_at) if state.last_success_at else 0,
        "last_exit_code": state.exit_code,
        "lag_rows": state.lag_rows,
        "resident_memory_bytes": state.rss_bytes,
    }
    for name, help_text in _GAUGES.items():
        value = values[name]
        if value is not None:
            Gauge(_PREFIX + name, help_text, ["table"], registry=registry).labels(state.table).set(value)
    build = Gauge(
        f"{_PREFIX}build_info", "The version that wrote this file", ["table", "version", "python"], registry=registry
    )
    build.labels(state.table, version, platform.python_version()).set(1)
    stages = Gauge(
        f"{_PREFIX}run_stage_seconds",
        "Seconds by stage of the last run: read, route and write summed over threads, load and index as they passed",
        ["table", "stage"],
        registry=registry,
    )
    for stage, seconds in state.seconds.items():
        stages.labels(state.table, stage).set(seconds)
    rows = Gauge(f"{_PREFIX}shard_rows", "Rows in the shard", ["table", "shard"], registry=registry)
    size = Gauge(f"{_PREFIX}shard_bytes", "Bytes of the shard's file", ["table", "shard"], registry=registry)
    for each in state.shards:
        rows.labels(state.table, str(each.shard)).set(each.rows)
        size.labels(state.table, str(each.shard)).set(each.bytes)
    return generate_latest(registry)


def write(path: Path, state: State, version: str) -> None:
    """Replaces the file in one step. Its temporary name does not end in .prom, which the collector would read."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else _MODE
    files.replace(path, text(state, version), mode=mode)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
