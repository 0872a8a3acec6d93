"""How things stand with a table's shards: during a run and after, with the source or without it. Only looks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from etl.core import ranges
from etl.core.errors import EtlError
from etl.core.routing import shard_path
from etl.runtime.settings import Settings
from etl.shards import checkpoint, ledger, read_only
from etl.shards.ledger import FirstLine
from etl.shards.manifest import Manifest
from etl.sources import schema
from etl.status import status_file
from etl.status.status_file import INTERRUPTED, RUNNING, State


@dataclass(frozen=True, slots=True)
class ShardStanding:
    """One shard's file."""

    shard: int
    rows: int | None
    """None where there is no file, or none that could be read."""
    bytes: int
    known_from: str
    """ledger; or run, manifest, while the file is in the middle of a write; or nothing."""


@dataclass(slots=True)
class Snapshot:
    """How things stand."""

    table: str
    source: str
    shard_dir: str
    run: State | None
    shards: list[ShardStanding] = field(default_factory=list)
    lag_rows: int | None = None
    """Rows of the source above the last one that every shard has; rowids, an upper bound, where there are many."""
    verification: dict[str, Any] | None = None
    """What the last one left."""
    unproved: list[int] = field(default_factory=list)
    """Shards that were loaded later than the others, without a full verification since."""
    notes: list[str] = field(default_factory=list)
    """What could not be found out, and why."""

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return sum(each.rows or 0 for each in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of all shards' files."""
        return sum(each.bytes for each in self.shards)


def take(settings: Settings) -> Snapshot:
    """Looks at the state file, the ledgers, the source and the last verification; locks and writes nothing."""
    run = status_file.read(status_file.path_of(settings.SHARD_DIR, settings.TABLE_NAME))
    is_live = run is not None and status_file.is_alive(run)
    if run is not None and run.outcome == RUNNING and not is_live:
        run = replace(run, outcome=INTERRUPTED, eta_s=None)
    standing = Snapshot(settings.TABLE_NAME, str(settings.SOURCE_DB), str(settings.SHARD_DIR), run)
    standing.shards, last_rowid = _shards(settings, standing, is_live=is_live)
    if run is not None and is_live:
        last_rowid = run.last_rowid
    standing.lag_rows = _lag_rows(settings, standing, last_rowid)
    standing.verification = _verification(settings, standing)
    return standing


def _shards(settings: Settings, standing: Snapshot, *, is_live: bool) -> tuple[list[ShardStanding], int | None]:
    """Each shard, and the last rowid that all of them have by their ledgers."""
    manifest = Manifest(settings.SHARD_DIR, settings.TABLE_NAME)
    known = {each.shard: each.rows for each in standing.run.shards} if standing.run else {}
    source = "run" if known else "manifest"
    if not known:
        known = manifest.rows()
    shards, coverages = [], []
    first_lines: list[FirstLine | None] = []
    for number in settings.shard_map.shards:
        path = shard_path(settings.SHARD_DIR, settings.TABLE_NAME, number)
        size = path.stat().st_size if path.is_file() else 0
        if is_live or (size and read_only.is_half_written(path)):
            shards.append(ShardStanding(number, known.get(number), size, source))
            coverages.append(manifest.coverage())
            first_lines.append(None)
            continue
        coverage, rows, first_line = _ledger(path, standing) if size else ((), None, None)
        shards.append(ShardStanding(number, rows, size, "nothing" if rows is None else "ledger"))
        coverages.append(coverage)
        first_lines.append(first_line)
    proved_at = status_file.proved_at(status_file.verification_path(settings.SHARD_DIR, settings.TABLE_NAME))
    standing.unproved = [
        shards[slot].shard for slot in checkpoint.without_proof(checkpoint.later(first_lines), proved_at)
    ]
    done = ranges.common(coverages)
    return shards, done[-1].last_rowid if done else None


def _ledger(path: Path, standing: Snapshot) -> tuple[ranges.Coverage, int | None, FirstLine | None]:
    try:
        with read_only.opened(path) as connection:
            coverage, rows = ledger.coverage(connection)
            return coverage, rows, ledger.first_line(connection)
    except EtlError as error:
        standing.notes.append(str(error))
        return (), None, None


def _lag_rows(settings: Settings, standing: Snapshot, last_rowid: int | None) -> int | None:
    try:
        table, _ = schema.look(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
        return schema.rows_above(settings.SOURCE_DB, table, last_rowid)
    except EtlError as error:
        standing.notes.append(str(error))
        return None


def _verification(settings: Settings, standing: Snapshot) -> dict[str, Any] | None:
    path = status_file.verification_path(settings.SHARD_DIR, settings.TABLE_NAME)
    if not path.is_file():
        return None
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        given = None
    if not isinstance(given, dict):
        standing.notes.append(f"{path}: expected what the last verification wrote, found no JSON; verify again")
        return None
    return given
