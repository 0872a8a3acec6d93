"""The shards while nobody writes to them: what can be read, their windows, and what belongs to no window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress

import numpy as np

from etl.core import ranges
from etl.core.errors import EtlError
from etl.core.model import RowidRange
from etl.core.ranges import Coverage
from etl.shards.comparison import Comparison
from etl.shards.ledger_arrays import Ledger, Numbers
from etl.shards.reconciliation import ManifestCheck
from etl.shards.schema_drift import SchemaDrift
from etl.shards.shard_set import ConfiguredShardSet
from etl.sources.reader import Source
from etl.sqlite import sql
from etl.sqlite.adbc import Connection, ShardError
from etl.verify import worker
from etl.verify.differences import Result
from etl.verify.halt import Halt
from etl.verify.scope import Scope
from etl.verify.shard_reader import ShardReader, faults
from etl.verify.structure import StructureCheck

_KEPT_LINES = 1_000_000
"""So many lines of ledgers are kept in memory; others are read again for each chunk."""


class Inventory:
    """What the shards of one table have. What differs, except in rows of windows, goes into `result`."""

    def __init__(
        self,
        source: Source,
        comparison: Comparison,
        shard_set: ConfiguredShardSet,
        scope: Scope,
        *,
        drift: SchemaDrift,
        is_loaded: bool,
    ) -> None:
        """Reads schemas and ledgers. `is_loaded` says that the last run did not end before its time.

        Raises Refused where no shard fits the settings.
        """
        self.source = source
        self.comparison = comparison
        self.shard_set = shard_set
        self.scope = scope
        self.drift = drift
        self.readers = [ShardReader(shard.path, source.table) for shard in shard_set.shards]
        self.result = Result()
        self.structure = StructureCheck(
            shard_set, self.readers, drift, scope=scope, into=self.result, is_loaded=is_loaded
        )
        wanted = scope.slots(shard_set.map)
        self._ledgers: dict[int, Ledger] = {}
        self._lines = 0
        self.slots, ledgers = self.structure.read(wanted, self._keep)
        self.result.shards = len(self.slots)
        for slot in set(range(self.all_slots)) - set(wanted):
            with suppress(EtlError):  # a shard that is not compared still says which windows there are
                ledgers.add(shard_set.shards[slot].ledger())
        self.windows = ledgers.windows()
        """All windows, compared or not."""
        self.rows = ledgers.rows_of(self.windows)
        """Of each window, by all ledgers together."""
        self.row_bytes = source.path.stat().st_size / max(1, int(self.rows.sum()))
        self.partial = self._partial()
        """Windows that a load has not completed: some shards have them, and the others have neither line nor rows."""
        self.result.is_unfinished |= bool(self.partial)

    @property
    def all_slots(self) -> int:
        return len(self.shard_set.shards)

    @property
    def complete(self) -> list[RowidRange]:
        """The windows that a load has completed."""
        return [window for window in self.windows if window not in self.partial]

    @property
    def is_whole(self) -> bool:
        """Whether all shards are compared."""
        return len(self.slots) == self.all_slots

    def ledger(self, slot: int) -> Ledger:
        """A shard's ledger. Raises ShardError."""
        kept = self._ledgers.get(slot)
        return self.shard_set.shards[slot].ledger() if kept is None else kept

    def _keep(self, slot: int, ledger: Ledger) -> None:
        self._lines += len(ledger.first)
        if self._lines <= _KEPT_LINES:
            self._ledgers[slot] = ledger

    def rows_of(self, windows: Sequence[RowidRange]) -> Numbers:
        """The rows of each of these windows, by all ledgers together."""
        known = dict(zip(self.windows, self.rows.tolist(), strict=True))
        return np.array([known[window] for window in windows], np.int64)

    @property
    def outside(self) -> Coverage:
        """The rowids in scope that are outside every window, where a shard should have no row."""
        return self.scope.outside(self.windows)

    def lose(self, slot: int, error: EtlError) -> None:
        """Notes that a shard's file is damaged: it is compared no further."""
        self.structure.damaged(slot, error)
        self.slots = [each for each in self.slots if each != slot]

    def check(self, source: Connection, rowids: RowidRange | None, halt: Halt) -> None:
        """Checks what belongs to no window: rows outside, ledgers, the manifest; counts newer rows.

        `rowids` are the source's. Raises Stopped.
        """
        manifest = ManifestCheck(self.shard_set.manifest, self.windows, self.shard_set.map)
        for slot in list(self.slots):
            try:
                self._check_shard(slot, manifest, halt)
            except ShardError as error:
                self.lose(slot, error)
        if self.is_whole:
            self.structure.check_manifest(manifest, self.windows)
        if rowids and self.scope.is_everything and self.scope.shards is None:
            newer = ranges.subtract((rowids,), ranges.union(self.complete))
            self.result.newer_rows = sum(self.comparison.count(source, piece) for piece in newer)

    def _check_shard(self, slot: int, manifest: ManifestCheck, halt: Halt) -> None:
        ledger, differences = self.ledger(slot), self.result.differences
        with worker.opened(self.comparison, {slot: self.readers[slot].path}, halt.check_stop) as shard:
            outside = shard.all_rows(slot, self.outside)
        if len(outside.rowids):
            differences.rows["extra"].add(outside.rowids)
            differences.outside.add(slot)
            differences.foreign_rows += len(outside.rowids)
            self.result.shard_rows += len(outside.rowids)
        self.structure.check_lines(slot, ledger, self.windows)
        manifest.add(slot, ledger.rows_of(self.windows))

    def check_files(self, halt: Halt, writing: Callable[[], AbstractContextManager[None]]) -> None:
        """Checks the files that can be read so far; within `writing` where that keeps writers out. Raises Stopped."""
        readers = {slot: self.readers[slot] for slot in self.slots}
        found = faults(readers, quick=self.scope.quick, check_stop=halt.check_stop, writing=writing)
        for slot, error in found.items():
            self.lose(slot, error)

    def _partial(self) -> set[RowidRange]:
        lacking: dict[RowidRange, list[int]] = {}
        for slot in list(self.slots):
            try:
                has = self.ledger(slot).rows_of(self.windows) >= 0
            except ShardError as error:
                self.lose(slot, error)
                continue
            for position in np.flatnonzero(~has):
                lacking.setdefault(self.windows[position], []).append(slot)
        if self.structure.unmade:
            return set(self.windows)
        return {window for window, slots in lacking.items() if not any(self._has_rows(slot, window) for slot in slots)}

    def _has_rows(self, slot: int, window: RowidRange) -> bool:
        with self.shard_set.shards[slot].opened() as connection:
            ((rowid,),) = connection.execute(sql.rowid_from(self.source.table, window.first_rowid)) or ((None,),)
        return rowid is not None and rowid <= window.last_rowid
