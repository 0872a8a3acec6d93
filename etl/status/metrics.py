"""The metrics of a run in Prometheus' text format, for a file that node_exporter's textfile collector reads."""

from __future__ import annotations

import platform
import stat
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from etl.runtime import files
from etl.runtime.settings import Settings
from etl.runtime.version import VERSION
from etl.status import status_file, verifications
from etl.status.status_file import RUNNING, RunStatus

_PREFIX = "shard_migrate_"
_MODE = 0o600
"""Of a new file. The collector is often another user; the operator changes the mode once, and later runs keep it."""


def _seconds(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0


def _gauges(run: RunStatus) -> dict[str, tuple[str, float | None]]:
    """Each metric of the whole run: its help text and its value; an unknown value is left out, never 0."""
    return {
        "run_rows": ("Rows that the last run has written into the shards", run.rows),
        "run_rows_per_second": (
            "Rows over the time of load and indexes of the last run; rows that are read and not written count half",
            run.rows_per_s,
        ),
        "run_rows_updated": ("Old rows that the last run has replaced by what the source has now", run.rows_updated),
        "run_windows": ("Windows that the last run has completed", run.windows),
        "run_bytes": ("Bytes of cells that the last run has read", run.bytes),
        "progress_ratio": ("How much of the last run is done, load and indexes together, from 0 to 1", run.fraction),
        "running": ("1 during a run; updated_timestamp_seconds shows whether it is alive", run.outcome == RUNNING),
        "updated_timestamp_seconds": ("When this file was written", _seconds(run.updated_at)),
        "last_attempt_timestamp_seconds": ("When the last run began", _seconds(run.started_at)),
        "last_success_timestamp_seconds": (
            "When a run last ended with exit code 0; 0 before the first",
            _seconds(run.last_success_at),
        ),
        "last_exit_code": ("Exit code of the last run; absent during a run", run.exit_code),
        "lag_rows": (
            "Rows of the source after the last row in the shards, when the last run ended; absent during a run",
            run.lag_rows,
        ),
        "last_full_proof_timestamp_seconds": (
            "When a verification last ended that compared all rows and found them equal; 0 before the first",
            _seconds(run.last_full_proof_at),
        ),
        "last_verification_timestamp_seconds": (
            "When the last verification ended, whatever it found; 0 before the first",
            _seconds(run.last_verification_at),
        ),
        "last_verification_exit_code": (
            "Exit code of the last verification or refresh; absent before it",
            run.last_verification_exit_code,
        ),
        "rows_differing": ("Rows that the last verification found different; absent before it", run.rows_differing),
        "sealed_timestamp_seconds": ("When the cut-over sealed the shards; 0 before it", _seconds(run.sealed_at)),
        "resident_memory_bytes": ("Memory of the run's process", run.rss_bytes),
    }


def follow_verification(settings: Settings) -> None:
    """Writes METRICS_FILE with what the last verification found, if a run is recorded. Raises OSError."""
    run = status_file.read(status_file.path_of(settings.SHARD_DIR, settings.TABLE_NAME))
    if settings.METRICS_FILE is not None and run is not None:
        write(settings.METRICS_FILE, replace(run, **verifications.figures(settings.SHARD_DIR, settings.TABLE_NAME)))


def write(path: Path, run: RunStatus) -> None:
    """Replaces the file atomically. Its temporary name does not end in .prom, so the collector ignores it."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else _MODE
    files.replace(path, _text(run), mode=mode)


def _text(run: RunStatus) -> bytes:
    registry = CollectorRegistry()

    def gauge(name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, help_text, ["table", *labels], registry=registry)

    for name, (help_text, value) in _gauges(run).items():
        if value is not None:
            gauge(name, help_text).labels(run.table).set(value)
    build = gauge("build_info", "The version that wrote this file", "version", "python")
    build.labels(run.table, VERSION, platform.python_version()).set(1)
    stages = gauge(
        "run_stage_seconds",
        "Seconds by stage of the last run: read, route and write summed over threads, load and index elapsed",
        "stage",
    )
    for stage, seconds in run.seconds.items():
        stages.labels(run.table, stage).set(seconds)
    rows = gauge("shard_rows", "Rows in the shard", "shard")
    size = gauge("shard_bytes", "Bytes of the shard's file", "shard")
    for each in run.shards:
        rows.labels(run.table, str(each.shard)).set(each.rows)
        size.labels(run.table, str(each.shard)).set(each.bytes)
    return generate_latest(registry)
