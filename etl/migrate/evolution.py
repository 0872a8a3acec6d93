"""The shards' schema follows the source's: outdated indexes go, and new columns come, with the values of old rows.

A shard records a new column with the column itself, and forgets it when its old rows have the values. So after a kill
at any instant the next run knows what is left.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from etl.core import ranges
from etl.core.model import MIN_ROWID, RowidRange
from etl.core.partition import ToUtf8
from etl.core.ranges import Coverage
from etl.runtime import log
from etl.shards.checkpoint import Checkpoint, Each
from etl.shards.comparison import CHANGED, Comparison
from etl.shards.ledger_arrays import Numbers
from etl.shards.replace import Replacement
from etl.shards.schema_drift import SchemaDrift
from etl.shards.shard import Shard
from etl.shards.shard_set import ConfiguredShardSet
from etl.sqlite.utf16 import utf8_converter

_ROWS_AT_ONCE = 100_000


def drop_outdated(shards: Sequence[Shard], found: Checkpoint, each: Each) -> None:
    """Drops indexes that the source no longer has, or has otherwise: an old UNIQUE one would keep new rows out."""
    pairs = [(shard, state.indexes.outdated) for shard, state in zip(shards, found.found, strict=True) if state]
    pairs = [(shard, outdated) for shard, outdated in pairs if outdated]
    if pairs:
        log.event("indexes", dropped=sorted({index.name for _, outdated in pairs for index in outdated}))
        each(lambda pair: pair[0].drop(pair[1]), pairs)


def evolve(
    source: Path,
    shards: ConfiguredShardSet,
    found: Checkpoint,
    drift: SchemaDrift,
    rowids: RowidRange | None,
    *,
    run_id: str,
    stop: threading.Event,
    each: Each,
) -> bool:
    """Brings the shards to the source's columns; returns whether it came to the end. Raises EtlError."""
    each(lambda slot: shards.shards[slot].add_columns(drift.lacking[slot]), sorted(drift.lacking))
    log.event("columns", added=drift.new, shards=len(drift.lacking))
    slots = sorted({*drift.lacking, *drift.unfilled})
    rows = 0
    with utf8_converter(drift.table.encoding) as utf8:
        filling = _Filling(source, shards, drift, rowids, utf8, run_id=run_id, stop=stop)
        for slot in slots if filling.is_needed else ():
            contents = found.found[slot]
            filled = filling.run(slot, contents.coverage if contents else ())
            if filled is None:
                return False
            rows += filled
    each(lambda slot: shards.shards[slot].fill_columns(), slots)
    log.event("evolved", columns=drift.new, rows=rows)
    return True


class _Filling:
    """Replaces the rows whose new cells are not the default."""

    def __init__(
        self,
        source: Path,
        shards: ConfiguredShardSet,
        drift: SchemaDrift,
        rowids: RowidRange | None,
        utf8: ToUtf8 | None,
        *,
        run_id: str,
        stop: threading.Event,
    ) -> None:
        table = drift.table
        new = [column for column in table.columns if column.name in drift.new]
        compared = replace(table, columns=(*new, *(() if table.key in new else (table.key,))))
        self.is_needed = any(not column.generated for column in new)
        self._paths = [shard.path for shard in shards.shards]
        self._comparison = Comparison(source, compared, shards.map, rowids, utf8)
        self._replacement = Replacement(source, shards.shards, self._comparison, run_id=run_id)
        self._stop = stop

    def run(self, slot: int, left: Coverage) -> int | None:
        """Brings a shard's rows in these ranges to the source's values; how many differed, None if it was stopped."""
        filled = 0
        while left:
            rowids, left = self._differing(slot, left)
            if self._stop.is_set():
                return None
            if len(rowids):
                self._replacement.replace(rowids, {slot: rowids})
                filled += len(rowids)
        return filled

    def _differing(self, slot: int, left: Coverage) -> tuple[Numbers, Coverage]:
        """The next rows that differ, and the ranges beyond them.

        A row that belongs to another shard now is left to a refresh, as it was before.
        """
        found, count, path = [np.empty(0, np.int64)], 0, self._paths[slot]
        with self._comparison.open() as connection:
            self._comparison.attach(connection, path, 0)
            for piece in left:
                with closing(self._comparison.rows(connection, path, 0, piece)) as batches:
                    for rows in batches:
                        found.append(rows.rowids[rows.states == CHANGED])
                        count += len(found[-1])
                        if count >= _ROWS_AT_ONCE or self._stop.is_set():
                            done = RowidRange(MIN_ROWID, int(rows.rowids[-1]))
                            homes = self._comparison.chosen_rows(connection, np.concatenate(found))
                            return homes.rowids[homes.slots == slot], ranges.subtract(left, (done,))
            homes = self._comparison.chosen_rows(connection, np.concatenate(found))
            return homes.rowids[homes.slots == slot], ()
