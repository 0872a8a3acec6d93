"""The plan of a run: rows, windows, read types, keys, disk, time, warnings, and every reason for a refusal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field

from etl.core import portability
from etl.core.errors import Refusals
from etl.core.model import RowidRange, ShardMap, Table
from etl.migrate import disk_estimate, preflight
from etl.migrate.disk_estimate import DiskEstimate
from etl.migrate.plan import profile, sample, trial_load
from etl.migrate.plan.profile import ColumnProfile, KeyProfile
from etl.migrate.plan.sample import Count, Sample
from etl.runtime import files
from etl.runtime.settings import Settings
from etl.shards import checkpoint, read_only, schema_drift, seal, shard_set, source_identity
from etl.shards.checkpoint import Checkpoint
from etl.shards.cursor import column_of
from etl.shards.ddl_check import rehearse
from etl.shards.manifest import Manifest
from etl.shards.read_only import ReadOnlyShard
from etl.sources import schema
from etl.status import status_file

_TRIAL_ROWS = 12_500
"""Rows of the trial load from each range of the sample."""


@dataclass(slots=True)
class Plan(Refusals):
    """What a run would do."""

    table: str
    source: str
    shard_dir: str
    sampled_rows: int = 0
    rows: Count | None = None
    rows_todo: Count | None = None
    windows_todo: int | None = None
    columns: list[ColumnProfile] = field(default_factory=list)
    key: KeyProfile | None = None
    shards: dict[int, int] = field(default_factory=dict)
    """Each shard → estimated bytes of its file after the run."""
    bytes_todo: int | None = None
    """The disk estimate: bytes that must be free for the run."""
    free_bytes: int | None = None
    indexes: dict[str, int] = field(default_factory=dict)
    """Each index → estimated bytes in all shards after the run."""
    index_changes: dict[str, str] = field(default_factory=dict)
    """Those that shards lack, or have too much: name → created, dropped or replaced."""
    cursor_column: str | None = None
    cursor_is_indexed: bool | None = None
    """Whether the source has an index that begins with the cursor column; None without one."""
    load_s: float | None = None
    index_s: float | None = None
    trial_rows: int = 0
    warnings: list[str] = field(default_factory=list)


def make(settings: Settings, *, evolve: bool = False) -> Plan:
    """The plan for these settings, with every reason for a refusal, not only the first."""
    plan = Plan(settings.TABLE_NAME, str(settings.SOURCE_DB), str(settings.SHARD_DIR))
    with plan.refusing():
        files.check_uses(settings)
        for kind in files.OF_A_RUN:
            with plan.refusing():
                files.check_is_own(settings, kind)
        for name, path in (("SOURCE_DB", settings.SOURCE_DB), ("SHARD_DIR", settings.SHARD_DIR)):
            with plan.refusing():
                preflight.check_is_utf8(name, path)
        for refusal in preflight.directories(settings):
            plan.refuse(refusal)
        directory = preflight.nearest(settings.SHARD_DIR)
        plan.free_bytes = shutil.disk_usage(directory).free if directory.is_dir() else None
        running = status_file.another_run(settings.SHARD_DIR)
        if running:
            plan.refuse(running)
        table, rowids = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
        draft = _Draft(settings, plan, table, rowids, is_live=running is not None)
        with plan.refusing():
            seal.check(settings.SHARD_DIR, draft.found.found)
        with plan.refusing():
            draft.compare_schema(evolve=evolve)
        for part in (draft.compare_source, draft.add_cursor, draft.add_disk, draft.add_rows):
            with plan.refusing():
                part()
    return plan


class _Draft:
    """A plan in the making, once the source's schema is known. Each method fills in a part, or raises EtlError."""

    def __init__(
        self, settings: Settings, plan: Plan, table: Table, rowids: RowidRange | None, *, is_live: bool
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._table = table
        self._rowids = rowids
        self._indexes = shard_set.indexes(settings, table)
        self._shards = shard_set.shards_as(ReadOnlyShard, settings, table)
        self._disk: DiskEstimate | None = None
        manifest = Manifest(settings.SHARD_DIR, settings.TABLE_NAME)
        known = read_only.Known(manifest.coverage(), manifest.rows(), run_at_work=is_live)
        for shard in self._shards:
            shard.known = known
        self.found: Checkpoint = checkpoint.take(self._shards, rowids, self._indexes, plan.one_by_one)
        self._drift = schema_drift.of(table, self.found.found)
        if any(shard.is_half_written for shard in self._shards):
            plan.warnings.append(
                "a run is at work here, or was killed in the middle of a transaction: what is done is taken from the "
                "manifest, and may be more"
            )

    def compare_schema(self, *, evolve: bool) -> None:
        """Refuses what a run refuses of a changed schema, and names the columns that it would add."""
        self._drift.check(self._settings.SOURCE_DB, self._shards, evolve=evolve)
        if self._drift.new:
            self._plan.warnings.append(f"columns to be added to the shards: {', '.join(self._drift.new)}")

    def compare_source(self) -> None:
        """Warns if the source seems to be another one than before."""
        settings = self._settings
        if self._drift.altered:
            return
        warning = source_identity.check(
            settings.SOURCE_DB, self._drift.common, self._shards, self.found, self._plan.one_by_one, force=False
        )
        self._plan.warnings += [warning] if warning else []

    def add_cursor(self) -> None:
        """Says whether the source has an index on the cursor column."""
        settings, plan = self._settings, self._plan
        if settings.CURSOR_COLUMN is None:
            return
        plan.cursor_column = column_of(self._table, settings.CURSOR_COLUMN).name
        plan.cursor_is_indexed = schema.searches(settings.SOURCE_DB, self._table, plan.cursor_column)
        if not plan.cursor_is_indexed:
            plan.warnings.append(
                f"CURSOR_COLUMN={plan.cursor_column}: no index of the source begins with it, so each run reads the "
                "whole table twice"
            )

    def add_disk(self) -> None:
        """Creates the indexes in memory, estimates the disk, and makes the checks of a run."""
        settings = self._settings
        indexed = rehearse(self._table, self._indexes)
        self._plan.warnings += portability.warnings(self._table, indexed, self._indexes)
        self._plan.warnings += seal.warnings(self._table, self._indexes, id_block=seal.ID_BLOCK)
        self._disk = disk_estimate.estimate(
            settings.SOURCE_DB, self._table, self._rowids, self.found, indexed, writers=settings.WRITERS
        )
        self._plan.bytes_todo, self._plan.indexes = self._disk.bytes, self._disk.by_index
        shards = [each.indexes for each in self.found.found if each]
        created = {index.name for indexes in shards for index in indexes.missing}
        dropped = {index.name for indexes in shards for index in indexes.outdated}
        self._plan.index_changes = dict.fromkeys(dropped, "dropped") | dict.fromkeys(created, "created")
        self._plan.index_changes |= dict.fromkeys(created & dropped, "replaced")
        if not self.found.is_complete:
            preflight.check(
                self._shards,
                self.found,
                directory=preflight.nearest(settings.SHARD_DIR),
                writers=settings.WRITERS,
                needed=self._disk,
                force=False,
            )

    def add_rows(self) -> None:
        """Samples the source's rows, and loads some of them into memory."""
        settings, plan, table, left = self._settings, self._plan, self._table, self.found.backlog
        sampled = sample.take(
            settings.SOURCE_DB, table, self._rowids, (*left.fresh, *left.lost), range_rows=_TRIAL_ROWS
        )
        plan.sampled_rows, plan.rows, plan.rows_todo = sampled.rows, sampled.source_rows, sampled.rows_todo
        fresh_windows = -(-sampled.rows_todo.rows // (settings.BATCH_SIZE * settings.READERS)) if left.fresh else 0
        plan.windows_todo = len(left.lost) + fresh_windows
        plan.columns = [profile.of_column(column, table, sampled) for column in table.carried]
        plan.key = profile.of_key(table.key, sampled.key)
        plan.warnings += profile.key_warnings(table.key, sampled.key, sampled.rows)
        if table.triggers:
            plan.warnings.append(f"triggers are not carried: {', '.join(table.triggers)}")
        if settings.RESERVED_SHARD < settings.NUM_SHARDS:
            plan.warnings.append(
                f"RESERVED_SHARD={settings.RESERVED_SHARD} is a hash shard too: it also gets the rows without a key"
            )
        if self._disk is not None:
            plan.shards = _shard_bytes(settings.shard_map, sampled, self._shards, self._disk)
        trial = trial_load.run(settings, table, sampled.ranges, self._indexes)
        if trial is not None:
            rows_to_index = sampled.rows_todo.rows if self.found.is_finished else sampled.source_rows.rows
            plan.trial_rows = trial.rows
            plan.load_s = trial.load_s * sampled.rows_todo.rows
            plan.index_s = trial.index_s * rows_to_index


def _shard_bytes(
    shard_map: ShardMap, sampled: Sample, shards: Sequence[ReadOnlyShard], disk: DiskEstimate
) -> dict[int, int]:
    """Each shard's bytes after the run: keys are spread evenly over the hash shards; the reserved one has the rest."""
    keyless = sampled.key.keyless / max(1, sampled.rows)
    sizes = [shard.path.stat().st_size if shard.path.is_file() else 0 for shard in shards]
    growth = disk.growth - disk.new_shard * sizes.count(0)
    expected = {}
    for number, size in zip(shard_map.shards, sizes, strict=True):
        share = (1 - keyless) / shard_map.num_shards * (number < shard_map.num_shards)
        share += keyless * (number == shard_map.reserved_shard)
        expected[number] = (size or disk.new_shard) + round(max(0, growth) * share)
    return expected
