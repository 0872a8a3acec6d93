"""The manifest made to agree with the ledgers, from which it is derived."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from etl.core import ranges
from etl.core.model import LedgerLine, RowidRange, ShardMap
from etl.runtime import log
from etl.shards.checkpoint import Checkpoint, Each
from etl.shards.manifest import Entry, Manifest
from etl.shards.shard import Shard


def rebuild(manifest: Manifest, shard_map: ShardMap, shards: Sequence[Shard], stock: Checkpoint, each: Each) -> int:
    """Writes the manifest again from the ledgers, whatever it says now; how many windows it then has."""
    entries = _entries(shard_map, shards, stock, each, have=())
    manifest.rebuild(entries)
    return len(entries)


def complete(manifest: Manifest, shard_map: ShardMap, shards: Sequence[Shard], stock: Checkpoint, each: Each) -> None:
    """Gives the manifest what the ledgers have: a killed run's last windows, or all where it was lost."""
    entries = _entries(shard_map, shards, stock, each, have=ranges.intersect(manifest.coverage(), stock.done))
    manifest.mend(stock.done, entries)
    log.event("manifest", mended_windows=len(entries))


def _entries(
    shard_map: ShardMap, shards: Sequence[Shard], stock: Checkpoint, each: Each, *, have: ranges.Coverage
) -> list[Entry]:
    """What the ledgers say of the windows that every shard has, but for those in `have`."""
    pairs = zip(shards, stock.found, strict=True)
    rows: dict[RowidRange, dict[int, LedgerLine]] = {}
    for slot, lines in enumerate(each(lambda pair: pair[0].windows_outside(have) if pair[1] else [], pairs)):
        for line in lines:
            if ranges.covers(stock.done, line.window):
                rows.setdefault(line.window, {})[slot] = line
    entries = []
    for window, by_slot in sorted(rows.items()):
        last = max(by_slot.values(), key=lambda line: line.committed_at)
        entries.append(
            Entry(
                run_id=last.run_id,
                window=window,
                rows_by_shard=[(shard_map.shards[slot], line.rows) for slot, line in sorted(by_slot.items())],
                committed_at=datetime.fromisoformat(last.committed_at),
            )
        )
    return entries
