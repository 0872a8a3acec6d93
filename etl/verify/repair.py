"""A repair: the rows that differ are replaced by the source's, then ledgers, headers, indexes and the manifest."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from etl.core.errors import Refused
from etl.core.model import RowidRange, Table
from etl.runtime import limits, log
from etl.shards import reconciliation
from etl.shards.comparison import Comparison
from etl.shards.replace import Replacement
from etl.shards.shard_set import ConfiguredShardSet
from etl.sources.reader import Source
from etl.sqlite import sql
from etl.verify.checker import Checker, Stopped
from etl.verify.differences import Result
from etl.verify.trace import Trace, classify, foreign_rows

ALWAYS_ALLOWED_ROWS = 1_000
"""A repair may always replace or delete this number of rows …"""
ALLOWED_SHARE = 0.1
"""… and up to this share of the rows. If more differ, the source may be another file, and the shards the only copy."""
_REPLACED = ("extra", "changed", "misplaced", "duplicated")
"""Kinds of rows that a repair takes from a shard. Missing rows do not count: to insert them destroys nothing."""


@dataclass(frozen=True, slots=True)
class Permits:
    """What a repair may do only if it is told to."""

    force: bool
    """Follow a source that seems to be another file, or in which many rows differ."""
    delete_foreign: bool
    """Delete rows that no run wrote."""
    delete_percent: float | None = None
    """Of a refresh, which follows any number of changed rows: delete rows up to this share."""
    deletes: int | None = None
    """Of a refresh: delete up to so many rows, whatever their share."""


class Repair:
    """Repairs what one verification found: rows, ledgers, indexes and the manifest, but no damaged files."""

    def __init__(
        self,
        source: Source,
        comparison: Comparison,
        shard_set: ConfiguredShardSet,
        permits: Permits,
        *,
        run_id: str,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._comparison = comparison
        self._shards = shard_set.shards
        self._shard_set = shard_set
        self._map = shard_set.map
        self._replacement = Replacement(source.path, shard_set.shards, comparison, run_id=run_id)
        self._stop = stop
        self._permits = permits
        self._foreign: dict[int, Counter[int]] = {}
        """Slot → window's position → rows that no run wrote, and that stay."""

    def run(self, checker: Checker, result: Result) -> frozenset[RowidRange]:
        """Repairs; returns the windows concerned. After a kill it can be repeated.

        Raises Stopped, EtlError, or, before anything is written, Refused: where a shard has a trigger, or where so
        many rows would be replaced or deleted that the source may be the wrong one (unless forced).
        """
        differences, table = result.differences, self._source.table
        self._check_share(result)
        slots = set(range(len(self._shards))) - differences.damaged
        for slot in sorted(slots):
            contents = self._shards[slot].find(())
            self._shards[slot].refuse_triggers(contents.triggers if contents else ())
        if self._permits.delete_foreign:
            for slot in slots & differences.outside:
                self._execute(slot, [sql.delete_rows(table, gap) for gap in checker.outside])
        for block, of_block in result.blocks.items():
            self._check_stop()
            self._replace(checker, block, of_block, result)
        for slot, positions in differences.ledgers.items():
            foreign = self._foreign.get(slot, Counter())
            if slot in slots:
                windows = {result.compared[position]: foreign[position] for position in sorted(positions)}
                self._replacement.correct_ledger(slot, windows)
        for slot in slots & (differences.headers | differences.sequences):
            self._execute(slot, self._statements(slot, table, result))
        for slot, wrong in differences.indexes.items():
            if slot in slots:
                self._shards[slot].drop(wrong)
                self._shards[slot].finish(self._shard_set.indexes, self._stop)
                log.event("indexed", shard=self._map.shards[slot], indexes=len(wrong))
        if not differences.damaged:
            reconciliation.correct(self._shard_set.manifest, self._map, self._shards, result.all_windows)
        positions = {position for slot, of_slot in differences.windows.items() if slot in slots for position in of_slot}
        return frozenset(result.compared[position] for position in positions)

    def _replace(self, checker: Checker, block: int, slots: Iterable[int], result: Result) -> None:
        """Replaces the rows of a block that still differ."""
        with self._comparison.open() as source:
            trace = Trace(checker.source_rows(source, block), checker.shard_rows(block, slots))
        equal = set(range(len(self._shards))) - trace.found.keys()
        rowids = classify(trace, equal=equal, into=Result().differences, blocks=checker.blocks)
        held = {slot: rows.rowids for slot, rows in trace.found.items()}
        for slot, positions in result.differences.foreign.items():
            if slot in held and not self._permits.delete_foreign:
                foreign = foreign_rows(trace, slot, checker.blocks, positions)
                self._foreign.setdefault(slot, Counter()).update(checker.blocks.window_of(foreign).tolist())
                held[slot] = np.setdiff1d(held[slot], foreign)
        self._replacement.replace(rowids, held, damaged=result.differences.damaged)
        log.event("repaired", rows=len(rowids), shards=[self._map.shards[slot] for slot in held])

    def _check_share(self, result: Result) -> None:
        counts = {kind: result.differences.rows[kind].count for kind in _REPLACED}
        if not self._permits.delete_foreign:
            counts["extra"] -= min(counts["extra"], result.differences.foreign_rows)
        if self._permits.delete_percent is not None:
            self._check_deletes(counts["extra"], result.shard_rows, self._permits.delete_percent)
            return
        limit = max(ALWAYS_ALLOWED_ROWS, int(result.shard_rows * ALLOWED_SHARE))
        if sum(counts.values()) <= limit:
            return
        complaint = (
            f"SOURCE_DB={self._source.path}: expected a repair to replace or delete at most {limit:,} of the shards' "
            f"{result.shard_rows:,} rows compared, found "
            + ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
        )
        if not self._permits.force:
            raise Refused(
                f"{complaint}; check that it is the right source; if it is, --repair --force makes the shards like it"
            )
        log.event("forced", "WARNING", although=complaint)

    def _check_deletes(self, found: int, rows: int, percent: float) -> None:
        limit = int(rows * percent / 100) if self._permits.deletes is None else self._permits.deletes
        if found > limit:
            raise Refused(
                f"SOURCE_DB={self._source.path}: expected at most {limit:,} of the shards' {rows:,} rows to be gone "
                f"from it, found {found:,}; nothing was deleted; check that it is the right source; if it is, "
                f"--refresh --allow-deletes {found} deletes them (see MAX_DELETE_PERCENT)"
            )

    def _statements(self, slot: int, table: Table, result: Result) -> list[str]:
        """Sets what SQLite keeps for the table as the source has it."""
        differences = result.differences
        statements: list[str] = []
        if slot in differences.headers:
            statements += [f"PRAGMA user_version = {table.user_version}"]
            statements += [f"PRAGMA application_id = {table.application_id}"]
        if slot in differences.sequences:
            statements += sql.set_sequence(table)
        return statements

    def _execute(self, slot: int, statements: Iterable[str]) -> None:
        shard = self._shards[slot]
        with shard.connect(cache_kib=limits.cache_kib(1)) as connection:
            shard.begin(connection)
            for statement in statements:
                connection.execute(statement)
            connection.execute("COMMIT")

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped
