"""A repair: the rows that differ are replaced by the source's, then ledgers, headers, indexes and the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from etl.core.errors import Refused
from etl.core.model import RowidRange, Table
from etl.runtime import limits, log
from etl.shards import reconciliation
from etl.shards.replace import Replacement
from etl.sqlite import sql
from etl.verify.checker import Checker
from etl.verify.differences import Result
from etl.verify.halt import Halt
from etl.verify.inventory import Inventory
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

    def __init__(self, inventory: Inventory, permits: Permits, *, run_id: str, halt: Halt) -> None:
        self._inventory = inventory
        self._source = inventory.source
        self._comparison = inventory.comparison
        self._shard_set = inventory.shard_set
        self._shards = self._shard_set.shards
        self._map = self._shard_set.map
        self._replacement = Replacement(self._source.path, self._shards, self._comparison, run_id=run_id)
        self._halt = halt
        self._permits = permits
        self._foreign: dict[int, Counter[int]] = {}
        """Slot → window's position → rows that no run wrote, and that stay."""

    def check(self, found: Result, *, rows: int, deleted: int) -> None:
        """Before anything is written: whether all that was found may be repaired.

        `rows` are those of the whole table, `deleted` those that a refresh has deleted in other ranges of it, in the
        last round. Raises Refused where a shard has a trigger, or where so many rows would be replaced or deleted that
        the source may be the wrong one (unless forced).
        """
        self._check_share(found, rows=rows, deleted=deleted)
        for slot in sorted(self._slots):
            contents = self._shards[slot].find(())
            self._shards[slot].refuse_triggers(contents.triggers if contents else ())

    def run(self, checker: Checker) -> frozenset[RowidRange]:
        """Repairs what was found in a chunk; returns the windows concerned. After a kill it can be repeated.

        Raises Stopped or EtlError.
        """
        self._foreign.clear()
        result = checker.result
        differences, slots = result.differences, self._slots
        for block, of_block in result.blocks.items():
            self._halt.check_stop()
            self._replace(checker, block, [slot for slot in of_block if slot in slots])
        for slot, positions in differences.ledgers.items():
            foreign = self._foreign.get(slot, Counter())
            if slot in slots:
                windows = {result.compared[position]: foreign[position] for position in sorted(positions)}
                self._replacement.correct_ledger(slot, windows)
        positions = {position for slot, of_slot in differences.windows.items() if slot in slots for position in of_slot}
        return frozenset(result.compared[position] for position in positions)

    def finish(self) -> None:
        """Repairs what belongs to no chunk: rows outside every window, headers, indexes, the manifest."""
        result, slots, table = self._inventory.result, self._slots, self._source.table
        differences = result.differences
        if self._permits.delete_foreign:
            for slot in slots & differences.outside:
                self._execute(slot, [sql.delete_rows(table, gap) for gap in self._inventory.outside])
        for slot in slots & (differences.headers | differences.sequences):
            self._execute(slot, self._statements(slot, table, result))
        for slot, wrong in differences.indexes.items():
            if slot in slots:
                self._shards[slot].drop(wrong)
                self._shards[slot].finish(self._shard_set.indexes, self._halt.stop)
                log.event("indexed", shard=self._map.shards[slot], indexes=len(wrong))
        if not differences.damaged and not self._inventory.structure.unmade:
            reconciliation.correct(self._shard_set.manifest, self._map, self._shards, self._inventory.windows)

    def deletes(self, found: Result) -> int:
        """The rows that a repair of this deletes because they are gone from the source."""
        extra, foreign = found.differences.rows["extra"].count, found.differences.foreign_rows
        return extra if self._permits.delete_foreign else extra - min(extra, foreign)

    def deletes_to_count(self, found: Result) -> int:
        """Those that the brake of later refreshes counts: none where the operator has allowed a number."""
        return self.deletes(found) if self._permits.deletes is None else 0

    @property
    def _slots(self) -> set[int]:
        """The slots whose files can be written."""
        return (
            set(range(len(self._shards)))
            - self._inventory.result.differences.damaged
            - self._inventory.structure.unmade
        )

    def _replace(self, checker: Checker, block: int, slots: Iterable[int]) -> None:
        """Replaces the rows of a block that still differ."""
        with self._comparison.open() as source:
            trace = Trace(checker.source_rows(source, block), checker.shard_rows(block, slots))
        equal = set(range(len(self._shards))) - trace.found.keys()
        rowids = classify(trace, equal=equal, into=Result().differences, blocks=checker.blocks)
        held = {slot: rows.rowids for slot, rows in trace.found.items()}
        for slot, positions in checker.result.differences.foreign.items():
            if slot in held and not self._permits.delete_foreign:
                foreign = foreign_rows(trace, slot, checker.blocks, positions)
                self._foreign.setdefault(slot, Counter()).update(checker.blocks.window_of(foreign).tolist())
                held[slot] = np.setdiff1d(held[slot], foreign)
        self._replacement.replace(rowids, held, damaged=self._inventory.result.differences.damaged)
        log.event("repaired", rows=len(rowids), shards=[self._map.shards[slot] for slot in held])

    def _check_share(self, result: Result, *, rows: int, deleted: int) -> None:
        counts = {kind: result.differences.rows[kind].count for kind in _REPLACED} | {"extra": self.deletes(result)}
        if self._permits.delete_percent is not None:
            self._check_deletes(counts["extra"], deleted, rows + deleted, self._permits.delete_percent)
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

    def _check_deletes(self, found: int, deleted: int, rows: int, percent: float) -> None:
        is_allowed = self._permits.deletes is not None
        limit = int(rows * percent / 100) if self._permits.deletes is None else self._permits.deletes
        if found and found + (0 if is_allowed else deleted) > limit:
            count = f"{found:,}" + (f" after {deleted:,} in the last refreshes of other rowids" if deleted else "")
            raise Refused(
                f"SOURCE_DB={self._source.path}: expected at most {limit:,} of the shards' {rows:,} rows to be gone "
                f"from it, found {count}; these were not deleted; check that it is the right source; if it is, "
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
