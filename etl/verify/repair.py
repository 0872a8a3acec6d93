"""A repair: the windows that differ are replaced in their shards, with their ledger lines."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from etl.core import partition, ranges
from etl.core.columns import ROWID
from etl.core.errors import Refused
from etl.core.model import MAX_ROWID, MIN_ROWID, RowidRange
from etl.runtime import limits, log
from etl.shards import reconciliation
from etl.shards.replace import Replacement
from etl.shards.shard_set import ConfiguredShardSet
from etl.sources.reader import Source
from etl.sources.row_stream import Portion, of_source
from etl.sqlite import sql
from etl.sqlite.utf16 import utf8_converter
from etl.verify.checker import Stopped
from etl.verify.differences import Result

ALWAYS_ALLOWED_ROWS = 1_000
"""A repair may always replace or delete this number of rows …"""
ALLOWED_SHARE = 0.1
"""… and up to this share of the rows. If more differ, the source may be another file, and the shards the only copy."""
_REPLACED = ("extra", "changed", "misplaced", "duplicated")
"""Kinds of rows that a repair takes from a shard. Missing rows do not count: to insert them destroys nothing."""


class Repair:
    """Repairs what one verification found: rows, ledgers, indexes and the manifest, but no damaged files."""

    def __init__(
        self,
        source: Source,
        shard_set: ConfiguredShardSet,
        *,
        run_id: str,
        stop: threading.Event,
        force: bool = False,
    ) -> None:
        self._source = source
        self._shards = shard_set.shards
        self._shard_set = shard_set
        self._map = shard_set.map
        self._run_id = run_id
        self._stop = stop
        self._force = force

    def run(self, result: Result) -> frozenset[RowidRange]:
        """Repairs, with one transaction for each shard; returns the windows written. After a kill it can be repeated.

        Raises Stopped, EtlError, or, before anything is written, Refused: where a shard has a trigger, or where so
        many rows would be replaced or deleted that the source may be the wrong one (unless forced).
        """
        differences = result.differences
        self._check_share(result)
        slots = sorted(
            (differences.windows.keys() | differences.outside | differences.headers | differences.sequences)
            - differences.damaged
        )
        for slot in slots:
            contents = self._shards[slot].find(())
            self._shards[slot].refuse_triggers(contents.triggers if contents else ())
        size = limits.max_open_shards()
        for start in range(0, len(slots), size):
            self._replace(slots[start : start + size], result)
        for slot, wrong in differences.indexes.items():
            if slot not in differences.damaged:
                self._shards[slot].drop(wrong)
                self._shards[slot].finish(self._shard_set.indexes, self._stop)
                log.event("indexed", shard=self._map.shards[slot], indexes=len(wrong))
        if not differences.damaged:
            reconciliation.correct(self._shard_set.manifest, self._map, self._shards, result.all_windows)
        return frozenset(window for slot in slots for window in _windows(slot, result))

    def _check_share(self, result: Result) -> None:
        counts = {kind: result.differences.rows[kind].count for kind in _REPLACED}
        limit = max(ALWAYS_ALLOWED_ROWS, int(result.shard_rows * ALLOWED_SHARE))
        if sum(counts.values()) <= limit:
            return
        complaint = (
            f"SOURCE_DB={self._source.path}: expected a repair to replace or delete at most {limit:,} of the shards' "
            f"{result.shard_rows:,} rows compared, found "
            + ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
        )
        if not self._force:
            raise Refused(
                f"{complaint}; check that it is the right source; if it is, --repair --force makes the shards like it"
            )
        log.event("forced", "WARNING", although=complaint)

    def _replace(self, slots: Sequence[int], result: Result) -> None:
        windows = {slot: _windows(slot, result) for slot in slots}
        with Replacement({slot: self._shards[slot] for slot in slots}, windows) as replacement:
            for slot in slots:
                replacement.delete(slot)
                self._correct_header(slot, replacement, result)
            for portion in of_source(self._source, replacement.coverage):
                self._check_stop()
                self._insert(portion, replacement, slots)
            for slot in slots:
                self._check_stop()
                rows = replacement.commit(slot, self._run_id)
                log.event("repaired", shard=self._map.shards[slot], windows=len(windows[slot]), rows=rows)

    def _correct_header(self, slot: int, replacement: Replacement, result: Result) -> None:
        """Deletes the rows outside every window, and sets what SQLite keeps for the table as the source has it."""
        table, differences = self._source.table, result.differences
        statements: list[str] = []
        if slot in differences.outside:
            gaps = ranges.subtract((RowidRange(MIN_ROWID, MAX_ROWID),), ranges.union(result.all_windows))
            statements += [sql.delete_rows(table, gap) for gap in gaps]
        if slot in differences.headers:
            statements += [f"PRAGMA user_version = {table.user_version}"]
            statements += [f"PRAGMA application_id = {table.application_id}"]
        if slot in differences.sequences:
            statements += sql.set_sequence(table)
        for statement in statements:
            replacement.execute(slot, statement)

    def _insert(self, portion: Portion, replacement: Replacement, slots: Sequence[int]) -> None:
        table = self._source.table
        with utf8_converter(table.encoding) as utf8:
            keys = partition.keys(portion.frame, table, portion.read_types, utf8=utf8)
        selected = replacement.select(portion.frame[ROWID].to_numpy(), partition.slots(keys, self._map))
        partitioned = partition.split_by_shard(
            portion.frame.filter(selected),
            keys.filter(selected),
            table=table,
            read_types=portion.read_types,
            windows=[portion.stretch],
            shards=self._map,
        )
        statement = sql.insert(table, portion.read_types)
        for slot in slots:
            replacement.insert(slot, partitioned.of(slot), statement, breaks_not_null=partitioned.breaks_not_null)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped


def _windows(slot: int, result: Result) -> list[RowidRange]:
    """The windows of a shard that are to be replaced."""
    return [result.compared[position] for position in sorted(result.differences.windows.get(slot, ()))]
