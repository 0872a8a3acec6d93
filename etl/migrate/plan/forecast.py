"""What a run would do, found out without touching anything: rows, windows, lanes, keys, disk, time, and obstacles."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from etl.core import portability
from etl.core.errors import AlreadyRunning, EtlError, Refused
from etl.core.model import Index, ReadType, RowidRange, ShardMap, Table
from etl.migrate import preflight
from etl.migrate.plan import profile, sample, trial_load
from etl.migrate.plan.profile import ColumnForecast, KeyForecast
from etl.migrate.plan.sample import Census, Count
from etl.migrate.plan.trial_load import Trial
from etl.runtime import files
from etl.runtime.settings import Settings
from etl.shards import checkpoint as stock_of
from etl.shards import read_only, shard_set, source_identity
from etl.shards.checkpoint import Checkpoint, R, T
from etl.shards.ddl_check import rehearse
from etl.shards.manifest import Manifest
from etl.shards.read_only import ReadOnlyShard
from etl.sources import schema
from etl.sqlite import sql
from etl.sqlite.connectorx import MAX_RESULT_COLUMNS
from etl.status import status_file

_TRIAL_ROWS = 12_500
"""Of each piece of the sample."""


@dataclass(slots=True)
class Forecast:
    """What a run would do."""

    table: str
    source: str
    shard_dir: str
    sampled_rows: int = 0
    rows: Count | None = None
    rows_todo: Count | None = None
    windows_todo: int | None = None
    columns: list[ColumnForecast] = field(default_factory=list)
    key: KeyForecast | None = None
    shards: dict[int, int] = field(default_factory=dict)
    """Each shard → bytes of its file afterwards, as estimated."""
    bytes_todo: int | None = None
    """Bytes that the run would add, as estimated."""
    free_bytes: int | None = None
    load_s: float | None = None
    index_s: float | None = None
    trial_rows: int = 0
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    exit_code: int = 0

    def refuse(self, error: EtlError) -> None:
        """Takes in a reason why a run would end before it begins."""
        self.refusals += str(error).splitlines()
        self.exit_code = max(self.exit_code, Refused.exit_code)


def make(settings: Settings) -> Forecast:
    """The forecast for these settings. Writes nothing, locks nothing; every obstacle is in it, not only the first."""
    forecast = Forecast(settings.TABLE_NAME, str(settings.SOURCE_DB), str(settings.SHARD_DIR))
    try:
        files.check_uses(settings)
    except Refused as error:
        forecast.refuse(error)
        return forecast
    _look_at_files(settings, forecast)
    _look_at_directories(settings, forecast)
    is_live = _look_for_a_run(settings, forecast)
    try:
        table, rowids = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
        indexes = sql.indexes(table, columns=settings.INDEX_COLUMNS, copied=settings.COPY_INDEXES)
        shards = shard_set.shards_as(ReadOnlyShard, settings, table)
    except EtlError as error:
        forecast.refuse(error)
        return forecast
    manifest = Manifest(settings.SHARD_DIR, settings.TABLE_NAME)
    known = read_only.Known(manifest.coverage(), manifest.rows(), run_at_work=is_live)
    for shard in shards:
        shard.known = known
    each = _Collecting(forecast)
    stock = stock_of.take(shards, rowids, indexes, each)
    if any(shard.is_half_written for shard in shards):
        forecast.warnings.append(
            "a run is at work here, or was killed in the middle of a transaction: what is done is counted by the "
            "manifest, and may be more"
        )
    looks: list[Callable[[], None]] = [
        lambda: _look_for_changes(settings, forecast, table, stock=stock, shards=shards),
        lambda: _look_at_indexes(settings, forecast, table, rowids, stock=stock, indexes=indexes, shards=shards),
        lambda: _look_at_rows(settings, forecast, table, rowids, stock=stock, indexes=indexes, shards=shards),
    ]
    for look in looks:
        try:
            look()
        except EtlError as error:
            forecast.refuse(error)
    return forecast


def _look_for_changes(
    settings: Settings, forecast: Forecast, table: Table, *, stock: Checkpoint, shards: Sequence[ReadOnlyShard]
) -> None:
    warning = source_identity.check(settings.SOURCE_DB, table, shards, stock, _Collecting(forecast), force=False)
    forecast.warnings += [warning] if warning else []


def _look_at_indexes(
    settings: Settings,
    forecast: Forecast,
    table: Table,
    rowids: RowidRange | None,
    *,
    stock: Checkpoint,
    indexes: Sequence[Index],
    shards: Sequence[ReadOnlyShard],
) -> None:
    """Creates them in memory; warns of those that depend on the version of SQLite, and looks for room for all."""
    indexed = rehearse(table, indexes)
    forecast.warnings += portability.warnings(table, indexed, indexes)
    if stock.is_complete:
        return
    preflight.check(
        shards,
        stock,
        directory=_nearest(settings.SHARD_DIR),
        writers=settings.WRITERS,
        room=preflight.room(settings.SOURCE_DB, table, rowids, stock, indexed, writers=settings.WRITERS),
        force=False,
    )


def _look_at_rows(
    settings: Settings,
    forecast: Forecast,
    table: Table,
    rowids: RowidRange | None,
    *,
    stock: Checkpoint,
    indexes: Sequence[Index],
    shards: Sequence[ReadOnlyShard],
) -> None:
    backlog = (*stock.backlog.fresh, *stock.backlog.lost)
    found = sample.take(settings.SOURCE_DB, table, rowids, backlog, piece_rows=_TRIAL_ROWS)
    forecast.sampled_rows, forecast.rows, forecast.rows_todo = found.sampled_rows, found.rows, found.rows_todo
    window_rows = settings.BATCH_SIZE * settings.READERS
    fresh = max(0, -(-found.rows_todo.rows // window_rows)) if stock.backlog.fresh else 0
    forecast.windows_todo = fresh + len(stock.backlog.lost)
    forecast.columns = [profile.of_column(column, table, found) for column in table.carried]
    forecast.key = profile.of_key(table.key, found.key)
    forecast.warnings += profile.key_warnings(table.key, found.key, found.sampled_rows)
    if table.triggers:
        forecast.warnings.append(f"triggers are not carried: {', '.join(table.triggers)}")
    if settings.RESERVED_SHARD < settings.NUM_SHARDS:
        forecast.warnings.append(f"RESERVED_SHARD={settings.RESERVED_SHARD} is a hash shard too: keyless rows share it")
    width = 1 + sum(4 if each.read_type == ReadType.VARIANT.value else 1 for each in forecast.columns)
    if width > MAX_RESULT_COLUMNS:
        raise Refused(
            f"SOURCE_DB={settings.SOURCE_DB}, TABLE_NAME={table.name}: carrying every cell as it is takes {width} "
            f"result columns, and SQLite gives {MAX_RESULT_COLUMNS}; split the table"
        )
    tried = trial_load.run(settings, table, found.pieces, indexes)
    if tried is not None:
        missing = 0 if stock.is_finished else found.rows.rows
        _look_ahead(settings.shard_map, forecast, found, tried, shards, rows_to_index=missing)


def _look_ahead(
    shard_map: ShardMap,
    forecast: Forecast,
    found: Census,
    tried: Trial,
    shards: Sequence[ReadOnlyShard],
    *,
    rows_to_index: int,
) -> None:
    forecast.trial_rows = tried.rows
    forecast.load_s = tried.load_s * found.rows_todo.rows
    forecast.index_s = tried.index_s * (rows_to_index or found.rows_todo.rows)
    keyless = found.key.keyless / max(1, found.sampled_rows)
    hashed = found.rows_todo.rows * (1 - keyless) / shard_map.num_shards
    added = 0
    for number, shard in zip(shard_map.shards, shards, strict=True):
        rows = hashed * (number < shard_map.num_shards)
        rows += found.rows_todo.rows * keyless * (number == shard_map.reserved_shard)
        exists = shard.path.is_file() and shard.path.stat().st_size
        more = round(rows * tried.row_bytes) + (0 if exists else tried.empty_bytes)
        forecast.shards[number] = (shard.path.stat().st_size if exists else 0) + more
        added += more
    forecast.bytes_todo = added


def _look_at_files(settings: Settings, forecast: Forecast) -> None:
    for kind in files.OF_A_RUN:
        try:
            files.check_is_ours(settings, kind)
        except Refused as error:
            forecast.refuse(error)


def _look_at_directories(settings: Settings, forecast: Forecast) -> None:
    named = {"SHARD_DIR": settings.SHARD_DIR, "LOG_DIR": settings.LOG_DIR / "logs"}
    if settings.METRICS_FILE is not None:
        named["METRICS_FILE"] = settings.METRICS_FILE.parent
    for name, path in named.items():
        there = _nearest(path)
        if not there.is_dir():
            forecast.refuse(Refused(f"{name}={path}: expected a directory, found {there} in its way; choose another"))
        elif not os.access(there, os.W_OK | os.X_OK):
            forecast.refuse(Refused(f"{name}={path}: {there} cannot be written; mend that, or choose another"))
        elif name == "METRICS_FILE" and there != path:
            forecast.refuse(Refused(f"{name}={settings.METRICS_FILE}: expected its directory to exist; make it"))
        elif name == "SHARD_DIR":
            forecast.free_bytes = shutil.disk_usage(there).free


def _nearest(path: Path) -> Path:
    """The path, or the nearest above it that exists."""
    return next(there for there in (path, *path.absolute().parents) if os.path.lexists(there))


def _look_for_a_run(settings: Settings, forecast: Forecast) -> bool:
    """Whether a run is at work in SHARD_DIR, on this table or another."""
    for path in settings.SHARD_DIR.glob("*_status.json"):
        run = status_file.read(path)
        if run is not None and status_file.is_alive(run):
            forecast.refusals.append(
                f"SHARD_DIR={settings.SHARD_DIR}: the run with pid {run.pid}, started {run.started_at}, is at work "
                "here; wait for it to end"
            )
            forecast.exit_code = AlreadyRunning.exit_code
            return True
    return False


class _Collecting:
    """Works through the items one by one; an error becomes a refusal, and its item is as if it were not there."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast

    def __call__(self, work: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        results = []
        for item in items:
            try:
                results.append(work(item))
            except EtlError as error:
                self._forecast.refuse(error)
                results.append(cast("R", None))  # as `Shard.find` says of a file that is not there
        return results
