"""Rows replaced in the shards by what the source has now: the one way of every repair.

First each shard that is to hold rows gets them. In one transaction it deletes their old versions, copies the new ones
from the source, which is attached to its connection, and corrects the counts in the ledger. Then the other shards
delete theirs. So a row may be in two shards after a kill, but never in none.

A UNIQUE conflict means that the row in the way is stale. Its rowid joins the others, its shard deletes it first, and
the replacement begins again. Only where stale rows are in each other's way in a circle of shards, a kill between two
commits leaves one of them out; then its block still differs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from etl.core.model import RowidRange
from etl.runtime import limits, log
from etl.shards import sql, unique
from etl.shards.comparison import Comparison, fill
from etl.shards.ledger_arrays import Numbers
from etl.shards.shard import Shard
from etl.shards.unique import StaleRows

_NONE = np.empty(0, np.int64)


class Replacement:
    """Replaces rows of one table's shards."""

    def __init__(self, source: Path, shards: Sequence[Shard], comparison: Comparison, *, run_id: str) -> None:
        """Takes the shards by slot."""
        self._source = source
        self._shards = shards
        self._comparison = comparison
        self._run_id = run_id

    def replace(self, rowids: Numbers, held: Mapping[int, Numbers], *, damaged: Collection[int] = frozenset()) -> None:
        """Makes the rows at these rowids those of the source, wherever they belong.

        `held` has, by slot, the rowids that a shard holds now; a shard that is not in it only gets the rows that it
        lacks, and one of `damaged` is not opened. Raises EtlError.
        """
        in_the_way: dict[int, Numbers] = {}
        while True:
            homes = self._homes(rowids, held, damaged)
            try:
                for slot in _ordered(homes, in_the_way):
                    stale = np.union1d(homes[slot], in_the_way.get(slot, _NONE))
                    owned = np.intersect1d(held.get(slot, _NONE), rowids)
                    self._write(slot, delete=stale, copy=homes[slot], owned=owned)
                break
            except StaleRows as stale:
                in_the_way[slot] = np.union1d(in_the_way.get(slot, _NONE), stale.rowids)
                rowids = np.union1d(rowids, stale.rowids)
        for slot, of_shard in held.items():
            elsewhere = np.setdiff1d(np.intersect1d(of_shard, rowids), homes.get(slot, _NONE))
            if len(elsewhere):
                self._write(slot, delete=elsewhere, copy=_NONE)

    def holders(self, rowids: Numbers, slots: Iterable[int] | None = None) -> dict[int, Numbers]:
        """Which of these rowids each shard has, by slot; of all shards unless `slots` are given."""
        held = {}
        for slot in range(len(self._shards)) if slots is None else slots:
            shard = self._shards[slot]
            with shard.opened() as connection:
                fill(connection, rowids)
                held[slot] = np.array(connection.fetch(sql.present(shard.table)).column(0), np.int64)
        return held

    def correct_ledger(self, slot: int, windows: Mapping[RowidRange, int]) -> None:
        """Makes the shard's ledger have exactly these windows, each given with the number of its foreign rows."""
        shard = self._shards[slot]
        with shard.connect(cache_kib=limits.cache_kib(1)) as connection:
            shard.begin(connection)
            now = log.now().isoformat()
            for window, foreign in windows.items():
                for statement in sql.correct_window(shard.table, window, self._run_id, now, foreign=foreign):
                    connection.execute(statement)
            connection.execute("COMMIT")

    def _homes(self, rowids: Numbers, held: Mapping[int, Numbers], damaged: Collection[int]) -> dict[int, Numbers]:
        """The rowids that the source has, by the slot that is to be written, where they belong.

        A shard that is not in `held` may be out of a repair's scope, or right in this block but not in the block of a
        row that was in the way: a row that it lacks would be in no shard.
        """
        with self._comparison.open() as connection:
            rows = self._comparison.chosen_rows(connection, rowids)
        homes = {int(slot): rows.rowids[rows.slots == slot] for slot in np.unique(rows.slots) if slot not in damaged}
        for slot, present in self.holders(rowids, [slot for slot in homes if slot not in held]).items():
            homes[slot] = np.setdiff1d(homes[slot], present)
        return {slot: of for slot, of in homes.items() if len(of)}

    def _write(self, slot: int, *, delete: Numbers, copy: Numbers, owned: Numbers = _NONE) -> None:
        """Deletes rows of a shard, and copies others from the source, in one transaction."""
        shard = self._shards[slot]
        with shard.connect(cache_kib=limits.cache_kib(1)) as connection:
            connection.attach(self._source, sql.SOURCE, mode="ro", cache_kib=limits.cache_kib(1))
            shard.begin(connection)
            relaxed = len(copy) and any(column.not_null for column in shard.table.columns)
            ddl = connection.relax_not_null(shard.table) if relaxed else ""
            every, now = np.union1d(delete, copy), log.now().isoformat()
            fill(connection, every)
            connection.execute(sql.count_chosen(shard.table, "-", now))
            fill(connection, delete)
            connection.execute(sql.delete_chosen(shard.table))
            fill(connection, copy)
            unique.insert(
                connection,
                shard.table,
                copy,
                lambda conflict: connection.execute(sql.copy_chosen(shard.table, conflict)),
                owned=owned,
            )
            fill(connection, every)
            connection.execute(sql.count_chosen(shard.table, "+", now))
            if relaxed:
                connection.replace_ddl(shard.table, ddl)
            connection.execute("COMMIT")


def _ordered(homes: Mapping[int, Numbers], in_the_way: Mapping[int, Numbers]) -> Iterator[int]:
    """The slots, each after those that get its rows in the way; in a circle of such slots, any first."""
    left = sorted(homes, key=lambda slot: slot in in_the_way)
    while left:
        free = (
            slot
            for slot in left
            if not any(np.isin(in_the_way.get(slot, _NONE), homes[other]).any() for other in left if other != slot)
        )
        slot = next(free, left[0])
        left.remove(slot)
        yield slot
