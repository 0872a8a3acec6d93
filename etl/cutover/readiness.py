"""Whether shards may be sealed: all rows loaded and proved, nothing in the source newer, indexes built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from etl.core.errors import Refusals, Refused
from etl.core.model import Seal, Table
from etl.runtime.settings import Settings
from etl.shards import checkpoint, schema_drift, seal, shard_set
from etl.shards.checkpoint import Checkpoint
from etl.shards.ddl_check import keeps_sequence
from etl.shards.read_only import ReadOnlyShard
from etl.sources import schema, source_file
from etl.status import status_file, verifications
from etl.status.units import counted


@dataclass(slots=True)
class Readiness(Refusals):
    """What a cut-over needs to know. `refusals` are the reasons against it."""

    table: Table | None = None
    seals: Mapping[int, Seal] = field(default_factory=dict)
    """Those that there are, by slot."""
    is_sealed: bool = False
    """Whether every shard is sealed."""
    is_autoincrement: bool = False
    greatest_id: int = 0
    """The greatest rowid in the shards and the source, or that AUTOINCREMENT gave in the source."""
    warnings: list[str] = field(default_factory=list)


def assess(settings: Settings) -> Readiness:
    """Reads the source and the shards without a trace. Where all shards are sealed, nothing more is asked."""
    ready = Readiness()
    with ready.refusing():
        if running := status_file.another_run(settings.SHARD_DIR):
            ready.refuse(running)
        table, rowids = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
        indexes = shard_set.indexes(settings, table)
        shards = shard_set.shards_as(ReadOnlyShard, settings, table)
        found = checkpoint.take(shards, rowids, indexes, ready.one_by_one)
        ready.table = table
        ready.seals = seal.of(found.found)
        ready.is_sealed = len(ready.seals) == len(shards)
        if any(shard.is_half_written for shard in shards):
            raise Refused(
                f"SHARD_DIR={settings.SHARD_DIR}: a run was killed in the middle of a transaction; run migrate"
            )
        if ready.is_sealed or ready.refusals:
            return ready
        ready.is_autoincrement = keeps_sequence(table)
        ready.warnings += seal.warnings(table, indexes)
        last_rowids = [shard.last_rowid() for shard in shards if shard.path.exists()]
        sequence = schema.sequence(settings.SOURCE_DB, table) if ready.is_autoincrement else 0
        ready.greatest_id = max(0, sequence, rowids.last_rowid if rowids else 0, *(last or 0 for last in last_rowids))
        with ready.refusing():
            schema_drift.of(table, found.found).check(settings.SOURCE_DB, shards)
        _check_load(ready, settings, found)
        _check_proof(ready, settings, found)
    return ready


def _check_load(ready: Readiness, settings: Settings, found: Checkpoint) -> None:
    place = f"SHARD_DIR={settings.SHARD_DIR}"
    missing = [str(settings.shard_map.shards[slot]) for slot, each in enumerate(found.found) if each is None]
    if missing:
        way_out = "restore it from a backup" if ready.seals else "run migrate"
        ready.refuse(Refused(f"{place}: expected all shards, found no file of shard {', '.join(missing)}; {way_out}"))
    elif not found.backlog.is_nothing:
        rowids = counted(found.backlog.span, "rowid")
        ready.refuse(Refused(f"{place}: expected every row of the source, found {rowids} to load; run migrate"))
    elif not found.is_finished:
        ready.refuse(Refused(f"{place}: expected all indexes, found some to build or to drop; run migrate"))


def _check_proof(ready: Readiness, settings: Settings, found: Checkpoint) -> None:
    place = f"SHARD_DIR={settings.SHARD_DIR}"
    proof = verifications.last_full_proof(settings.SHARD_DIR, settings.TABLE_NAME)
    if proof is None:
        ready.refuse(Refused(f"{place}: expected a verification that found all rows equal, found none; run verify"))
        return
    if proof.source != source_file.state(settings.SOURCE_DB):
        ready.refuse(
            Refused(
                f"SOURCE_DB={settings.SOURCE_DB}: expected no change since all rows were proved equal, "
                f"{proof.finished_at}, found a later one; stop the application's writes, then run migrate --refresh "
                "and verify"
            )
        )
    if doubt := verifications.doubt(settings.SHARD_DIR, settings.TABLE_NAME):
        ready.refuse(
            Refused(
                f"{place}: expected nothing after the last full proof that puts it in doubt, found {doubt}; run "
                "verify, and where it finds differences verify --repair"
            )
        )
    for slot in checkpoint.without_proof(found.unproved, proof.started_at):
        if found.found[slot] is None:
            continue  # said above
        ready.refuse(
            Refused(
                f"{place}: shard {settings.shard_map.shards[slot]} was loaded later than the others and not fully "
                "verified since; run verify"
            )
        )
