"""A verification, chunk by chunk: SQLite compares the rows of every shard with the source's (`shards.comparison`).

A block is equal when each row of the shards is the same in the source and in the shard of its key, and the shards have
as many rows as the source. Only where it is not, or where a program changed the source meanwhile, rowids are compared
as sets, which says what differs; so nothing is called a difference that was seen only once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from queue import SimpleQueue

import numpy as np

from etl.core.model import RowidRange
from etl.runtime import limits
from etl.runtime.rate_limit import RateLimit
from etl.shards.comparison import ComparedRows
from etl.shards.ledger_arrays import Numbers
from etl.sqlite.adbc import Connection, ShardError
from etl.status.progress_bar import ProgressBar
from etl.verify import worker
from etl.verify.blocks import Blocks
from etl.verify.differences import Result
from etl.verify.halt import Cause, Halt
from etl.verify.inventory import Inventory
from etl.verify.trace import Trace, classify, foreign_rows
from etl.verify.worker import ComparedBlock, Worker

_THREADS = 2


class Checker:
    """Compares one chunk: some windows, of all shards that can be read."""

    def __init__(
        self, inventory: Inventory, windows: Sequence[RowidRange], *, bar: ProgressBar, halt: Halt, rate: RateLimit
    ) -> None:
        """Takes disjoint windows, ascending."""
        self.inventory = inventory
        self._comparison = inventory.comparison
        self._all_slots = inventory.all_slots
        self._is_whole = inventory.is_whole
        self._bar = bar
        self._halt = halt
        self._rate = rate
        rows = int(inventory.rows_of(windows).sum())
        self.blocks = Blocks(windows, rows=rows, row_bytes=inventory.row_bytes)
        self.result = Result(all_windows=inventory.windows, compared=windows)
        """Fewer windows are compared if the verification is halted."""
        self._differences = self.result.differences
        self._suspects: set[tuple[int, int]] = set()
        """Block and slot where some row is not the same, or not in the shard of its key."""
        self._changed: set[int] = set()
        """Blocks during whose comparison the source changed."""
        self._expected = np.zeros((self.blocks.count, 1 if self._is_whole else self._all_slots), np.int64)
        """The source's rows by block, and by slot unless all shards are compared."""
        self._found = np.zeros((self.blocks.count, self._all_slots), np.int64)
        """The shards' rows by block and slot."""
        self.cause: Cause | None = None
        """Why not all windows were compared."""
        self._counted: dict[int, Numbers] = {}
        """Each shard's rows by window."""

    def run(self, source: Connection) -> Result:
        """Compares all blocks in groups of as many shards as may be open, then traces the blocks that differ.

        Raises EtlError, or Stopped where a signal comes between two blocks that are traced.
        """
        slots, size = self.inventory.slots, limits.max_open_shards() // _THREADS
        groups = [slots[start : start + size] for start in range(0, len(slots), size)]
        for group in groups:
            end = self._compare_group(group, is_first=group is groups[0], within_budget=len(groups) > 1)
            if self.cause:
                self.result.is_suspect = self.cause is Cause.STOP and bool(self._suspects)
                self._keep(end if len(groups) == 1 else 0)
                break
        if not self.blocks.count:
            return self.result
        readable = [slot for slot in slots if slot in self.inventory.slots]
        self.result.shards = len(readable)
        differing = self._differing(readable)
        if self.cause in (Cause.STOP, Cause.RUN) and differing:  # there is no time to trace them all
            first = 1 if self.cause is Cause.RUN and differing[0] == 0 else 0  # or it might never go on
            self._keep(max(first, differing[0]))
            self.result.is_suspect |= self.cause is Cause.STOP
            differing = differing[:first]
        for slot in readable:
            try:
                ledger = self.inventory.ledger(slot)
            except ShardError as error:
                self.inventory.lose(slot, error)
                continue
            counted = self._counted[slot][: len(self.blocks.windows)]
            self.inventory.structure.check_ledger(
                slot,
                ledger,
                self.inventory.windows,
                self.blocks.windows,
                counted_rows=counted,
                into=self._differences,
            )
        self.result.source_rows = int(self._expected[:, slice(None) if self._is_whole else list(slots)].sum())
        self.result.shard_rows = int(self._found[:, readable].sum())
        for block in differing:
            self._halt.check_stop()
            self._trace(source, block, readable)
        return self.result

    def _keep(self, blocks: int) -> None:
        """Leaves the blocks from this one on to another chunk."""
        self.blocks = self.blocks.first(blocks)
        self.result.compared = self.blocks.windows
        self._expected, self._found = self._expected[:blocks], self._found[:blocks]
        self._suspects = {(block, slot) for block, slot in self._suspects if block < blocks}
        self._changed = {block for block in self._changed if block < blocks}

    def _compare_group(self, slots: Sequence[int], *, is_first: bool, within_budget: bool) -> int:
        """Compares all blocks of these shards, so that the source is read once; returns how many.

        With `within_budget` a budget does not end it: the blocks are of use only when other shards are compared, too.
        """
        self._counted |= {slot: np.zeros(len(self.blocks.windows), np.int64) for slot in slots}
        errors: dict[int, ShardError] = {}
        end = self.blocks.count
        with ExitStack() as stack, ThreadPoolExecutor(_THREADS, thread_name_prefix="etl") as pool:
            workers = [
                stack.enter_context(self._worker(slots, check_stop=lambda: None))  # a block is compared to its end
                for _ in range(_THREADS)
            ]
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
                cause = self._halt.cause
                if cause and (cause is not Cause.BUDGET or (block and not within_budget)):  # each brings a block
                    self.cause, end = cause, block
                    break
                pending.append(pool.submit(compare, block))
                if len(pending) > _THREADS:
                    self._gather(pending.popleft().result(), is_first=is_first)
            for future in pending:
                self._gather(future.result(), is_first=is_first)
            for worker in workers:
                errors |= worker.errors
        for slot, error in errors.items():
            self.inventory.lose(slot, error)
        return end

    def _worker(self, slots: Sequence[int], *, check_stop: Callable[[], None]) -> AbstractContextManager[Worker]:
        shards = {slot: self.inventory.readers[slot].path for slot in slots}
        return worker.opened(self._comparison, shards, check_stop)

    def _gather(self, block: ComparedBlock, *, is_first: bool) -> None:
        """Takes in what a worker found in a block; the source's rows count once."""
        for slot, part in block.parts.items():
            self._counted[slot][self.blocks.positions(block.number)] = part.rows_by_window
            self._found[block.number, slot] = part.rows_by_window.sum()
            if not part.is_equal:
                self._suspects.add((block.number, slot))
        if is_first:
            self._expected[block.number] = block.expected
        if block.is_changed:
            self._changed.add(block.number)
        rows = sum(int(part.rows_by_window.sum()) for part in block.parts.values())
        self._bar.compared(rows)
        self._rate.wait(rows, self._halt.goes_on)

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
            self.result.blocks[block] = differing

    def source_rows(self, source: Connection, block: int) -> ComparedRows:
        """All rows of the source in a block."""
        pieces = self.blocks.pieces(block)
        return ComparedRows.joined([rows for piece in pieces for rows in self._comparison.source_rows(source, piece)])

    def shard_rows(self, block: int, slots: Iterable[int]) -> dict[int, ComparedRows]:
        """The rows of these shards in a block, by slot."""
        found = {}
        for slot in slots:
            with self._worker([slot], check_stop=self._halt.check_stop) as shard:
                found[slot] = shard.all_rows(slot, self.blocks.pieces(block))
        return found
