"""The state of a table's shards, during a run and after it, with or without the source. Read-only, without a lock."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from etl.core import ranges
from etl.core.errors import EtlError
from etl.core.routing import shard_path
from etl.runtime.settings import Settings
from etl.shards import checkpoint, ledger, read_only
from etl.shards.ledger import FirstRun
from etl.shards.manifest import Manifest
from etl.status import status_file, verifications
from etl.status.checks import Checks
from etl.status.lag import lag_rows
from etl.status.status_file import INTERRUPTED, RUNNING, RunStatus
from etl.status.verifications import FullProof


@dataclass(frozen=True, slots=True)
class ShardSnapshot:
    """One shard's file."""

    shard: int
    rows: int | None
    """None if there is no file, or none that could be read."""
    bytes: int
    known_from: str
    """Where `rows` is from: ledger; run or manifest, while the file is being written; or nothing."""
    lost_rows: int = 0
    """Rows that it had, by the manifest, and that the next run loads again."""


@dataclass(slots=True)
class Snapshot:
    """What `status` shows."""

    table: str
    source: str
    shard_dir: str
    run: RunStatus | None
    shards: list[ShardSnapshot] = field(default_factory=list)
    lag_rows: int | None = None
    """Rows of the source after the last one that every shard has, or had before its file was lost, and those that were
    lost; of many, the number of rowids, an upper bound."""
    verification: dict[str, Any] | None = None
    """The result file of the last verification."""
    last_full_proof: FullProof | None = None
    proved_percent: float = 0.0
    """Of the rowids that every shard has, those that were equal when they were last compared."""
    oldest_check: str | None = None
    """When the comparison of the oldest of them began."""
    sealed_at: str | None = None
    """When the cut-over sealed the first of them."""
    unproved: list[int] = field(default_factory=list)
    """Shards that were loaded later than the others, without a full verification since."""
    notes: list[str] = field(default_factory=list)
    """What could not be read, and why."""

    @property
    def rows(self) -> int:
        return sum(each.rows or 0 for each in self.shards)

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.shards)


def take(settings: Settings) -> Snapshot:
    """Reads the status file, the ledgers, the source and the result of the last verification."""
    run = status_file.read(status_file.path_of(settings.SHARD_DIR, settings.TABLE_NAME))
    is_live = run is not None and status_file.is_alive(run)
    if run is not None and run.outcome == RUNNING and not is_live:
        run = replace(run, outcome=INTERRUPTED, eta_s=None)
    snapshot = Snapshot(settings.TABLE_NAME, str(settings.SOURCE_DB), str(settings.SHARD_DIR), run)
    snapshot.last_full_proof = verifications.last_full_proof(settings.SHARD_DIR, settings.TABLE_NAME)
    last_rowid = _add_shards(settings, snapshot, is_live=is_live)
    try:
        newer = lag_rows(settings, run.last_rowid if run is not None and is_live else last_rowid)
        snapshot.lag_rows = newer + sum(each.lost_rows for each in snapshot.shards)
    except EtlError as error:
        snapshot.notes.append(str(error))
    snapshot.verification = _verification(settings, snapshot)
    return snapshot


def _add_shards(settings: Settings, snapshot: Snapshot, *, is_live: bool) -> int | None:
    """Adds each shard; the last rowid that all of them have, or had before a file was lost."""
    manifest = Manifest(settings.SHARD_DIR, settings.TABLE_NAME)
    known = {each.shard: each.rows for each in snapshot.run.shards} if snapshot.run else {}
    known_from = "run" if known else "manifest"
    if not known:
        known = manifest.rows()
    coverages: list[ranges.Coverage] = []
    first_runs: list[FirstRun | None] = []
    for number in settings.shard_map.shards:
        path = shard_path(settings.SHARD_DIR, settings.TABLE_NAME, number)
        size = path.stat().st_size if path.is_file() else 0
        first: FirstRun | None = None
        if is_live or (size and read_only.is_half_written(path)):
            snapshot.shards.append(ShardSnapshot(number, known.get(number), size, known_from))
            coverage = manifest.coverage()
        else:
            coverage, rows, first = _ledger(path, snapshot) if size else ((), None, None)
            snapshot.shards.append(ShardSnapshot(number, rows, size, "nothing" if rows is None else "ledger"))
        coverages.append(coverage)
        first_runs.append(first)
    proof = snapshot.last_full_proof
    snapshot.unproved = [
        snapshot.shards[slot].shard
        for slot in checkpoint.without_proof(checkpoint.later(first_runs), proof.started_at if proof else None)
    ]
    done = ranges.common(coverages)
    share, snapshot.oldest_check = Checks(settings.SHARD_DIR, settings.TABLE_NAME).proved(done)
    snapshot.proved_percent = math.floor(share * 1000) / 10
    if len(set(coverages)) > 1:
        had, completed = manifest.rows(), manifest.coverage()
        for slot, each in enumerate(snapshot.shards):
            if (lost := had.get(each.shard, 0) - (each.rows or 0)) > 0:
                snapshot.shards[slot] = replace(each, lost_rows=lost)
                coverages[slot] = ranges.union([*coverages[slot], *completed])
        done = ranges.common(coverages)
    return done[-1].last_rowid if done else None


def _ledger(path: Path, snapshot: Snapshot) -> tuple[ranges.Coverage, int | None, FirstRun | None]:
    try:
        with read_only.opened(path) as connection:
            if seal := ledger.identity(connection, path).seal:
                snapshot.sealed_at = min(seal.sealed_at, snapshot.sealed_at or seal.sealed_at)
            coverage, rows = ledger.coverage(connection)
            return coverage, rows, ledger.first_run(connection)
    except EtlError as error:
        snapshot.notes.append(str(error))
        return (), None, None


def _verification(settings: Settings, snapshot: Snapshot) -> dict[str, Any] | None:
    path = status_file.verification_path(settings.SHARD_DIR, settings.TABLE_NAME)
    if not path.is_file():
        return None
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        given = None
    if not isinstance(given, dict):
        snapshot.notes.append(f"{path}: expected the result of the last verification, found no JSON; verify again")
        return None
    return given
