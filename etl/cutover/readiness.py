"""Whether shards may be sealed: all rows loaded and proved, nothing in the source newer, indexes built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from etl.core.errors import EtlError, Refusals, Refused
from etl.core.model import Seal, Table
from etl.runtime.settings import Settings
from etl.shards import checkpoint, found_set, schema_drift, seal, shard_set
from etl.shards.checkpoint import Checkpoint
from etl.shards.ddl_check import keeps_sequence
from etl.shards.read_only import ReadOnlyShard
from etl.shards.seal import IdRange
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
    planned: Sequence[IdRange] = ()
    """The ids that each shard gets, by slot."""
    warnings: list[str] = field(default_factory=list)


def assess(settings: Settings, id_block: int) -> Readiness:
    """Reads the source and the shards without a trace. Where all shards are sealed, nothing more is asked."""
    ready = Readiness()
    with suppress(EtlError):  # the rest says why
        sealed = found_set.find(settings.SHARD_DIR, settings.TABLE_NAME)
        if sealed.shard_map == settings.shard_map:
            ready.seals = dict(enumerate(sealed.seals()))
            ready.is_sealed = True
            return ready
    with ready.refusing():
        if running := status_file.another_run(settings.SHARD_DIR):
            ready.refuse(running)
        table, rowids = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
        indexes = shard_set.indexes(settings, table)
        shards = shard_set.shards_as(ReadOnlyShard, settings, table)
        found = checkpoint.take(shards, rowids, indexes, ready.one_by_one)
        ready.table = table
        ready.seals = seal.of(found.found)
        for shard in (each for each in shards if each.is_half_written):
            raise Refused(
                f"{shard.path}: expected a shard that can be read, found one in the middle of a transaction, or a "
                "damaged one; run migrate, which goes on or says what is damaged"
            )
        if ready.refusals:
            return ready
        ready.is_autoincrement = keeps_sequence(table)
        ready.warnings += seal.warnings(table, indexes, id_block=id_block)
        greatest = [shard.last_id(is_autoincrement=ready.is_autoincrement) for shard in shards if shard.path.exists()]
        if ready.is_autoincrement:
            greatest.append(schema.sequence(settings.SOURCE_DB, table))
        greatest.append(rowids.last_rowid if rowids else 0)
        with ready.refusing():
            ready.planned = seal.planned(len(shards), greatest=max(0, *greatest), block=id_block, sealed=ready.seals)
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
    if not ready.seals and proof.shard_files != shard_set.file_states(settings):
        ready.refuse(
            Refused(
                f"{place}: expected no change of the shards since all rows were proved equal, {proof.finished_at}, "
                "found a later one; run verify"
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
