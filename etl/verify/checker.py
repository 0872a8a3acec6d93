"""A verification: source and shards are read once each, sums are compared by block, and differences traced to rowids.

The source is summed over all shards together, so its rows need no routing. Each shard's rows are routed, so that a row
in the wrong shard is found. Only where a block differs are the source's rows of that block routed too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from etl.core import partition, ranges
from etl.core.columns import ROWID, first_read_types
from etl.core.errors import EtlError
from etl.core.model import RowidRange
from etl.core.ranges import Coverage
from etl.runtime import limits
from etl.shards.ledger_arrays import Ledger, Numbers
from etl.shards.reconciliation import ManifestCheck
from etl.shards.shard_set import ConfiguredShardSet
from etl.sources.reader import Source
from etl.sources.row_stream import READ_ROWS, Portion, ahead, of_source
from etl.sqlite.utf16 import utf8_converter
from etl.status.progress_bar import ProgressBar
from etl.verify import digest
from etl.verify.blocks import Blocks, Sums
from etl.verify.differences import FIRST_ROWIDS, Result
from etl.verify.ledgers import rows_in
from etl.verify.scope import Scope
from etl.verify.shard_reader import ShardReader, checkers
from etl.verify.structure import StructureCheck
from etl.verify.trace import Fingerprinted, classify

T = TypeVar("T")
_TICK_S = 0.2


@dataclass(frozen=True, slots=True)
class _Begun:
    slot: int
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class _Ended:
    slot: int
    error: EtlError | None


class Stopped(Exception):
    """A signal came before the verification was done."""


class Checker:
    """One verification of one table's shards."""

    def __init__(
        self,
        source: Source,
        rowids: RowidRange | None,
        shard_set: ConfiguredShardSet,
        *,
        scope: Scope,
        bar: ProgressBar,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._rowids = rowids
        self._shard_set = shard_set
        self._map = shard_set.map
        self._slot_count = len(shard_set.shards)
        self._scope = scope
        self._bar = bar
        self._stop = stop
        self._readers = [ShardReader(shard.path, source.table) for shard in shard_set.shards]
        self._result = Result()
        self._differences = self._result.differences
        self._structure = StructureCheck(shard_set, self._readers, source.table, scope=scope, into=self._differences)
        self._read_types = first_read_types(source.table)
        self._row_bytes = 1.0
        """The mean size of a source row in memory, in the heaviest portion."""
        self._suspects: set[tuple[int, int]] = set()
        """Block and slot of rows that are not in the shard of their key."""

    def run(self) -> Result:
        """Compares everything in the scope. Raises EtlError, Stopped, or Refused where no shard fits the settings."""
        with utf8_converter(self._source.table.encoding) as self._utf8:
            return self._compare()

    def _compare(self) -> Result:
        slots, ledgers = self._structure.read(self._scope.slots(self._map))
        windows = ledgers.windows()
        chosen = self._scope.windows(windows, rows=int(ledgers.rows_of(windows).sum()))
        rows = int(ledgers.rows_of(chosen).sum())
        blocks = Blocks(chosen, rows=rows, slots=self._slot_count)
        self._result.all_windows, self._result.blocks, self._result.shards = windows, blocks, len(slots)
        self._bar.begin_verification(rows)
        is_whole = len(slots) == self._slot_count
        manifest = ManifestCheck(self._shard_set.manifest, windows, self._map)
        source = self._sum_source(None if is_whole else slots)
        shards, slots = self._sum_shards(slots, manifest)
        differing = source.differing(shards.folded(self._slot_count) if is_whole else shards)
        for block in sorted({group % blocks.count for group in differing} | {block for block, _ in self._suspects}):
            self._trace(block, shards, slots)
        if len(slots) == self._slot_count:
            self._structure.check_manifest(manifest, windows)
            if self._rowids and self._scope.is_everything:
                newer = ranges.split_at_zero(ranges.subtract((self._rowids,), ranges.union(windows)))
                self._result.newer_rows = sum(self._source.count(piece) for piece in newer)
        return self._result

    # -- the sums ------------------------------------------------------------------------------------------------------

    def _sum_source(self, slots: Sequence[int] | None) -> Sums:
        """The source's sums by block; given some slots, the sums of their rows by slot and block."""
        blocks = self._result.blocks
        sums = Sums(blocks.count * (1 if slots is None else self._slot_count))
        for portion in self._until_stopped(ahead(of_source(self._source, blocks.coverage, self._read_types))):
            rows = portion.frame.height
            self._read_types = portion.read_types
            self._row_bytes = max(self._row_bytes, portion.frame.estimated_size() / max(1, rows))
            found = self._fingerprinted(portion, 0 if slots is None else None)
            if slots is not None:
                found = found.of_slots(slots)
            sums.add(found.slots * blocks.count + blocks.block_of(found.rowids), found.low, found.high)
            self._result.source_rows += len(found.rowids)
            self._bar.compared(rows)
        return sums

    def _sum_shards(self, slots: Sequence[int], manifest: ManifestCheck) -> tuple[Sums, list[int]]:
        """The shards' sums by slot and block, and the slots that could be read to the end."""
        windows, compared = self._result.all_windows, self._result.compared
        sums, readable = Sums(self._result.blocks.count * self._slot_count), []
        counted = np.zeros(len(compared), np.int64)
        ledgers: dict[int, Ledger] = {}
        checks: dict[int, Future[EtlError | None]] = {}
        with checkers() as checker:
            for event in self._until_stopped(ahead(self._shard_events(slots))):
                match event:
                    case _Begun():
                        ledgers[event.slot] = event.ledger
                        counted[:] = 0
                    case _Ended(slot, None):
                        readable.append(slot)
                        self._structure.check_ledger(slot, ledgers[slot], windows, compared, counted)
                        manifest.add(slot, ledgers.pop(slot).rows_of(windows))
                        if self._scope.is_everything:
                            checks[slot] = checker.submit(self._readers[slot].fault, quick=self._scope.quick)
                    case _Ended(slot, error) if error:
                        self._structure.damaged(slot, error)
                    case (slot, Portion() as portion):
                        self._sum_portion(slot, portion, sums, counted)
            for slot, check in checks.items():
                while wait([check], timeout=_TICK_S).not_done:
                    self._check_stop()
                self._check_stop()
                if error := check.result():
                    self._structure.damaged(slot, error)
        return sums, readable

    def _sum_portion(self, slot: int, portion: Portion, sums: Sums, counted: Numbers) -> None:
        blocks = self._result.blocks
        found = self._fingerprinted(portion, None)
        windows = blocks.window_of(found.rowids)
        inside = windows >= 0
        counted += np.bincount(windows[inside], minlength=len(counted))
        block_of = windows // blocks.windows_per_block
        sums.add(slot * blocks.count + block_of[inside], found.low[inside], found.high[inside])
        self._suspects |= {(int(block), slot) for block in np.unique(block_of[inside & (found.slots != slot)])}
        if not inside.all():
            self._differences.rows["extra"].add(map(int, found.rowids[~inside][:FIRST_ROWIDS]), int((~inside).sum()))
            self._differences.outside.add(slot)
        self._result.shard_rows += len(found.rowids)
        self._bar.compared(len(found.rowids))

    def _shard_events(self, slots: Sequence[int]) -> Iterator[_Begun | tuple[int, Portion] | _Ended]:
        """Each shard's ledger, its rows, and its end or error. At its end its file is closed."""
        coverage = self._scope.coverage(self._result.all_windows, self._result.blocks.coverage)
        for slot in slots:
            try:
                ledger, pieces = self._pieces(slot, coverage)
                yield _Begun(slot, ledger)
                expected = int(np.maximum(ledger.rows_of(self._result.compared), 0).sum())
                rows = self._readers[slot].rows(pieces, read_types=self._read_types, expected=expected)
                yield from ((slot, portion) for portion in rows)
                yield _Ended(slot, None)
            except EtlError as error:
                yield _Ended(slot, error)

    def _pieces(self, slot: int, coverage: Coverage) -> tuple[Ledger, list[RowidRange]]:
        rows = max(1, min(READ_ROWS, int(limits.READ_TASK_BYTES / self._row_bytes)))
        return self._readers[slot].pieces(coverage, rows=rows)

    # -- where they differ ---------------------------------------------------------------------------------------------

    def _trace(self, block: int, shards: Sums, slots: Sequence[int]) -> None:
        """Finds the slots, then the rows, in which a block differs."""
        coverage = self._result.blocks.coverage_of(block)
        routed = Sums(self._slot_count)
        for portion in self._until_stopped(of_source(self._source, coverage, self._read_types)):
            found = self._fingerprinted(portion, None)
            routed.add(found.slots, found.low, found.high)
        differing = set(routed.differing(shards.every(self._result.blocks.count, block)))
        differing = {slot for slot in slots if slot in differing or (block, slot) in self._suspects}
        if not differing:
            return
        for portion in self._until_stopped(of_source(self._source, coverage, self._read_types)):
            parts = [part for slot in sorted(differing) for part in self._rows_of(slot, portion.stretch)]
            classify(
                self._fingerprinted(portion, None),
                Fingerprinted.joined(parts),
                read=differing,
                equal=set(slots) - differing,
                into=self._differences,
                blocks=self._result.blocks,
            )

    def _rows_of(self, slot: int, stretch: RowidRange) -> Iterator[Fingerprinted]:
        """A shard's rows in a range."""
        ledger, pieces = self._pieces(slot, ranges.intersect(self._result.blocks.coverage, (stretch,)))
        rows = self._readers[slot].rows(pieces, read_types=self._read_types, expected=rows_in(ledger, stretch))
        for portion in rows:
            yield self._fingerprinted(portion, slot)

    def _fingerprinted(self, portion: Portion, slot: int | None) -> Fingerprinted:
        """The portion's rows with the slot they were read from, or, given none, the slot of each row's key."""
        table, frame = self._source.table, portion.frame
        low, high = digest.fingerprints(frame, table, portion.read_types)
        if slot is None:
            keys = partition.keys(frame, table, portion.read_types, utf8=self._utf8)
            slots = partition.slots(keys, self._map).astype(np.int64)
        else:
            slots = np.full(frame.height, slot)
        return Fingerprinted(frame[ROWID].to_numpy(), slots, low, high)

    def _until_stopped(self, items: Iterator[T]) -> Iterator[T]:
        """The items; raises Stopped when a signal has come."""
        for item in items:
            self._check_stop()
            yield item

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped
