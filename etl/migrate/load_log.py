"""What the log says before a load (the event `plan`, and what the operator should know), and of each shard after it."""

from __future__ import annotations

from collections.abc import Sequence

from etl.core import portability, ranges
from etl.core.model import Index, RowidRange, Table
from etl.runtime import log
from etl.runtime.settings import Settings
from etl.shards.checkpoint import Checkpoint
from etl.shards.ddl_check import IndexedColumns
from etl.shards.shard_set import ConfiguredShardSet
from etl.status.progress import Progress


def begin(
    settings: Settings,
    table: Table,
    rowids: RowidRange | None,
    found: Checkpoint,
    *,
    indexed: IndexedColumns,
    indexes: Sequence[Index],
) -> None:
    """Logs what the load begins with. The first load warns; later ones only note the same: cron would mail it."""
    level = "INFO" if found.done else "WARNING"
    if table.triggers:
        log.event("triggers", level, not_carried=", ".join(table.triggers))
    if settings.RESERVED_SHARD < settings.NUM_SHARDS:
        shared = "rows without a key are in a hash shard"
        log.event("reserved", level, shard=settings.RESERVED_SHARD, shared=shared)
    log.event(
        "plan",
        source=str(settings.SOURCE_DB),
        table=table.name,
        shards=len(found.found),
        rowids=f"{rowids.first_rowid}..{rowids.last_rowid}" if rowids else "none",
        done=f"{_share_done(rowids, found):.1%}" if rowids else "100.0%",
    )
    for warning in portability.warnings(table, indexed, indexes):
        log.event("versions", level, warning=warning)


def _share_done(rowids: RowidRange, found: Checkpoint) -> float:
    """The share of the source's present rowids that the shards have; a lost shard lacks only its own share of them."""
    lacking = {window: len(slots) / len(found.found) for window, slots in found.backlog.lost.items()}
    done = ranges.intersect(ranges.union([*found.done, *lacking]), (rowids,))
    lost = sum(
        part.span * share for window, share in lacking.items() for part in ranges.intersect((window,), (rowids,))
    )
    return (sum(part.span for part in done) - lost) / rowids.span


def totals(progress: Progress, shards: ConfiguredShardSet, rows: Sequence[int]) -> None:
    """Logs the rows, by slot, and the bytes of each shard."""
    progress.shard_rows = dict(zip(shards.map.shards, rows, strict=True))
    for number, shard, count in zip(shards.map.shards, shards.shards, rows, strict=True):
        log.event("shard", shard=number, rows=count, bytes=shard.path.stat().st_size)
