"""A verification: block by block, SQLite compares the rows of every shard with the source's (`shards.comparison`).

A block is equal when each row of the shards is the same in the source and in the shard of its key, and the shards have
as many rows as the source. Only where it is not, or where a program changed the source meanwhile, rowids are compared
as sets, which says what differs; so nothing is called a difference that was seen only once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from queue import SimpleQueue

import numpy as np

from etl.core import ranges
from etl.core.errors import EtlError
from etl.core.model import RowidRange
from etl.core.ranges import Coverage
from etl.runtime import limits
from etl.shards import ledger_arrays
from etl.shards.comparison import ComparedRows, Comparison
from etl.shards.ledger_arrays import Numbers
from etl.shards.reconciliation import ManifestCheck
from etl.shards.shard_set import ConfiguredShardSet
from etl.sources.reader import Source
from etl.sqlite.adbc import Connection, ShardError
from etl.status.progress_bar import ProgressBar
from etl.verify import worker
from etl.verify.blocks import Blocks
from etl.verify.differences import Result
from etl.verify.scope import Scope
from etl.verify.shard_reader import ShardReader, faults
from etl.verify.structure import StructureCheck
from etl.verify.trace import Trace, classify, foreign_rows
from etl.verify.worker import ComparedBlock, Worker

_THREADS = 2


class Stopped(Exception):
    """A signal came before the verification was done."""


class Checker:
    """One verification of one table's shards."""

    def __init__(
        self,
        source: Source,
        rowids: RowidRange | None,
        comparison: Comparison,
        shard_set: ConfiguredShardSet,
        *,
        scope: Scope,
        bar: ProgressBar,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._rowids = rowids
        self._comparison = comparison
        self._shard_set = shard_set
        self._map = shard_set.map
        self._all_slots = len(shard_set.shards)
        self._scope = scope
        self._bar = bar
        self._stop = stop
        self._readers = [ShardReader(shard.path, source.table) for shard in shard_set.shards]
        self._result = Result()
        self._differences = self._result.differences
        self._structure = StructureCheck(shard_set, self._readers, source.table, scope=scope, into=self._differences)
        self._suspects: set[tuple[int, int]] = set()
        """Block and slot where some row is not the same, or not in the shard of its key."""
        self._changed: set[int] = set()
        """Blocks during whose comparison the source changed."""

    def run(self) -> Result:
        """Compares everything in the scope. Raises EtlError, Stopped, or Refused where no shard fits the settings."""
        wanted = self._scope.slots(self._map)
        slots, ledgers = self._structure.read(wanted)
        for slot in set(range(self._all_slots)) - set(wanted):
            with suppress(EtlError):  # a shard that is not compared still says which windows there are
                ledgers.add(self._shard_set.shards[slot].ledger())
        windows = ledgers.windows()
        all_rows = int(ledgers.rows_of(windows).sum())
        row_bytes = self._source.path.stat().st_size / max(1, all_rows)
        chosen = self._scope.windows(windows, rows=all_rows, row_bytes=row_bytes)
        rows = int(ledgers.rows_of(chosen).sum())
        self.blocks = Blocks(chosen, rows=rows, row_bytes=row_bytes)
        self._result.all_windows, self._result.compared, self._result.shards = windows, chosen, len(slots)
        self._bar.begin_verification(rows)
        with self._comparison.open() as source:
            self._compare(source, slots, ManifestCheck(self._shard_set.manifest, windows, self._map))
        return self._result

    def _compare(self, source: Connection, slots: Sequence[int], manifest: ManifestCheck) -> None:
        """Compares all blocks in groups of as many shards as may be open, then traces the blocks that differ."""
        self._is_whole = len(slots) == self._all_slots
        self._expected = np.zeros((self.blocks.count, 1 if self._is_whole else self._all_slots), np.int64)
        """The source's rows by block, and by slot unless all shards are compared."""
        self._found = np.zeros((self.blocks.count, self._all_slots), np.int64)
        """The shards' rows by block and slot."""
        readable: list[int] = []
        size = limits.max_open_shards() // _THREADS
        for start in range(0, len(slots), size):
            readable += self._compare_group(slots[start : start + size], manifest, is_first=start == 0)
        self._result.source_rows = int(self._expected[:, slice(None) if self._is_whole else list(slots)].sum())
        self._result.shard_rows += int(self._found[:, readable].sum())
        for block in self._differing(readable):
            self._check_stop()
            self._trace(source, block, readable)
        if len(readable) == self._all_slots:
            self._structure.check_manifest(manifest, self._result.all_windows)
            if self._rowids and self._scope.is_everything:
                newer = ranges.subtract((self._rowids,), ranges.union(self._result.all_windows))
                self._result.newer_rows = sum(self._comparison.count(source, piece) for piece in newer)

    def _compare_group(self, slots: Sequence[int], manifest: ManifestCheck, *, is_first: bool) -> list[int]:
        """Compares all blocks of these shards, so that the source is read once; returns the readable slots."""
        counted = {slot: np.zeros(len(self.blocks.windows), np.int64) for slot in slots}
        errors: dict[int, ShardError] = {}
        with ExitStack() as stack, ThreadPoolExecutor(_THREADS, thread_name_prefix="etl") as pool:
            workers = [stack.enter_context(self._worker(slots)) for _ in range(_THREADS)]
            free = SimpleQueue[Worker]()
            for worker in workers:
                free.put(worker)

            def compare(block: int) -> ComparedBlock:
                worker = free.get()
                try:
                    return worker.compare(self.blocks, block, slots=None if self._is_whole else self._all_slots)
                finally:
                    free.put(worker)

            pending: deque[Future[ComparedBlock]] = deque()
            for block in range(self.blocks.count):
                pending.append(pool.submit(compare, block))
                if len(pending) > 2 * _THREADS:
                    self._gather(pending.popleft().result(), counted, is_first=is_first)
            for future in pending:
                self._gather(future.result(), counted, is_first=is_first)
            for worker in workers:
                errors |= worker.errors
        for slot in [slot for slot in slots if slot not in errors]:
            try:
                self._check_ledger(slot, counted[slot], manifest)
            except ShardError as error:
                errors[slot] = error
        for slot, found in errors.items():
            self._structure.damaged(slot, found)
        readable = [slot for slot in slots if slot not in errors]
        return self._sound(readable) if self._scope.checks_files else readable

    def _worker(self, slots: Sequence[int]) -> AbstractContextManager[Worker]:
        return worker.opened(self._comparison, {slot: self._readers[slot].path for slot in slots}, self._check_stop)

    def _gather(self, block: ComparedBlock, counted: Mapping[int, Numbers], *, is_first: bool) -> None:
        """Takes in what a worker found in a block; the source's rows count once."""
        for slot, part in block.parts.items():
            counted[slot][self.blocks.positions(block.number)] = part.rows_by_window
            self._found[block.number, slot] = part.rows_by_window.sum()
            if not part.is_equal:
                self._suspects.add((block.number, slot))
            self._bar.compared(int(self._found[block.number, slot]))
        if is_first:
            self._expected[block.number] = block.expected
        if block.is_changed:
            self._changed.add(block.number)

    def _check_ledger(self, slot: int, counted: Numbers, manifest: ManifestCheck) -> None:
        """Checks a shard's rows outside every window, and its ledger."""
        windows = self._result.all_windows
        with self._worker([slot]) as shard:
            outside = shard.all_rows(slot, self.outside)
        if len(outside.rowids):
            self._differences.rows["extra"].add(outside.rowids)
            self._differences.outside.add(slot)
            self._differences.foreign_rows += len(outside.rowids)
            self._result.shard_rows += len(outside.rowids)
        with self._shard_set.shards[slot].opened() as connection:
            ledger = ledger_arrays.read(connection)
        self._structure.check_ledger(slot, ledger, windows, self._result.compared, counted)
        manifest.add(slot, ledger.rows_of(windows))

    def _sound(self, slots: Sequence[int]) -> list[int]:
        """Checks the files; the slots whose file is sound."""
        readers = {slot: self._readers[slot] for slot in slots}
        errors = faults(readers, quick=self._scope.quick, check_stop=self._check_stop)
        for slot, error in errors.items():
            self._structure.damaged(slot, error)
        return [slot for slot in slots if slot not in errors]

    def _differing(self, readable: Sequence[int]) -> list[int]:
        """The blocks whose rowids are to be compared as sets."""
        if self._is_whole and len(readable) < self._all_slots:
            return list(range(self.blocks.count))  # the source's rows were not counted by slot
        expected = self._expected.sum(axis=1) if self._is_whole else self._expected[:, readable].sum(axis=1)
        differs = np.flatnonzero(expected != self._found[:, readable].sum(axis=1))
        return sorted({*map(int, differs), *self._changed, *(block for block, _ in self._suspects)})

    def _trace(self, source: Connection, block: int, readable: Sequence[int]) -> None:
        """Finds the slots, then the rows, in which a block differs."""
        expected = self.source_rows(source, block)
        homes = np.bincount(expected.slots, minlength=self._all_slots)
        differing = [
            slot
            for slot in readable
            if block in self._changed or (block, slot) in self._suspects or homes[slot] != self._found[block, slot]
        ]
        trace = Trace(expected, self.shard_rows(block, differing))
        equal = set(readable) - set(differing)
        for slot, windows in self._differences.foreign.items():
            if slot in trace.found:
                self._differences.foreign_rows += len(foreign_rows(trace, slot, self.blocks, windows))
        if len(classify(trace, equal=equal, into=self._differences, blocks=self.blocks)):
            self._result.blocks[block] = differing

    @property
    def outside(self) -> Coverage:
        """The rowids in scope that are outside every window, where a shard should have no row."""
        return self._scope.outside(self._result.all_windows)

    def source_rows(self, source: Connection, block: int) -> ComparedRows:
        """All rows of the source in a block."""
        pieces = self.blocks.pieces(block)
        return ComparedRows.joined([rows for piece in pieces for rows in self._comparison.source_rows(source, piece)])

    def shard_rows(self, block: int, slots: Iterable[int]) -> dict[int, ComparedRows]:
        """The rows of these shards in a block, by slot."""
        found = {}
        for slot in slots:
            with self._worker([slot]) as shard:
                found[slot] = shard.all_rows(slot, self.blocks.pieces(block))
        return found

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped
