"""A verification: source and shards are read once each, sums compared by block, what differs traced to rowids.

The source's sums are taken over all shards together, which spares routing its rows; each shard's rows are routed, so
that none in the wrong shard goes unnoticed. Only where a block differs are the source's rows of it routed, too.
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
from etl.shards.shard_set import Fleet
from etl.sources.reader import Source
from etl.sources.row_stream import READ_ROWS, Portion, ahead, of_source
from etl.sqlite.utf16 import utf8_converter
from etl.status.progress_bar import ProgressBar
from etl.verify import digest
from etl.verify.blocks import Grid, Places, Progress
from etl.verify.differences import FIRST_ROWIDS
from etl.verify.ledgers import Ledger, Register
from etl.verify.result import Result
from etl.verify.scope import Scope
from etl.verify.shard_reader import Witness, checkers
from etl.verify.structure import Inspection
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


class Audit:
    """One verification of one table's shards."""

    def __init__(
        self,
        source: Source,
        rowids: RowidRange | None,
        fleet: Fleet,
        *,
        scope: Scope,
        bar: ProgressBar,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._rowids = rowids
        self._fleet = fleet
        self._map = fleet.map
        self._scope = scope
        self._bar = bar
        self._stop = stop
        self._witnesses = [Witness(shard.path, source.table) for shard in fleet.shards]
        self._result = Result()
        self._findings = self._result.findings
        self._inspection = Inspection(fleet, self._witnesses, source.table, scope=scope, findings=self._findings)
        self._read_types = first_read_types(source.table)
        self._row_bytes = 1.0
        """The mean of a source row's bytes in memory, in the heaviest portion."""
        self._suspects: set[tuple[int, int]] = set()
        """Block and slot of rows that are not in the shard that their own key asks for."""

    def run(self) -> Result:
        """Compares everything in the scope. Raises Refused where no shard is of these settings, EtlError, Stopped."""
        with utf8_converter(self._source.table.encoding) as self._utf8:
            return self._compared()

    def _compared(self) -> Result:
        slots, ledgers = self._inspection.look(self._scope.slots(self._map))
        windows = ledgers.windows()
        chosen = self._scope.windows(windows, rows=int(ledgers.rows_of(windows).sum()))
        rows = int(ledgers.rows_of(chosen).sum())
        grid = Grid(chosen, rows=rows, slots=len(self._fleet.shards))
        self._result.windows, self._result.grid, self._result.shards = windows, grid, len(slots)
        self._bar.begin_verification(rows)
        is_whole = len(slots) == len(self._fleet.shards)
        register = Register(self._fleet.manifest, windows, self._map.shards)
        source = self._sum_source(None if is_whole else slots)
        shards, slots = self._sum_shards(slots, register)
        same = source.differing(shards.summed(len(self._fleet.shards)) if is_whole else shards)
        blocks = {cell % grid.blocks for cell in same} | {block for block, _ in self._suspects}
        for block in sorted(blocks):
            self._trace(block, shards, slots)
        if len(slots) == len(self._fleet.shards):
            self._inspection.check_manifest(register, windows)
            if self._rowids and self._scope.is_everything:
                ahead_of = ranges.split_at_zero(ranges.subtract((self._rowids,), ranges.union(windows)))
                self._result.newer_rows = sum(self._source.count(piece) for piece in ahead_of)
        return self._result

    # -- the sums ------------------------------------------------------------------------------------------------------

    def _sum_source(self, slots: Sequence[int] | None) -> Progress:
        """The source's sums by block; given some slots, those of their rows by slot and block."""
        grid = self._result.grid
        tally = Progress(grid.blocks * (1 if slots is None else len(self._fleet.shards)))
        for portion in self._heeding(ahead(of_source(self._source, grid.coverage, self._read_types))):
            rows = portion.frame.height
            self._read_types = portion.read_types
            self._row_bytes = max(self._row_bytes, portion.frame.estimated_size() / max(1, rows))
            found = self._fingerprinted(portion, 0 if slots is None else None)
            if slots is not None:
                found = found.of_slots(slots)
            tally.add(found.slots * grid.blocks + grid.block(found.rowids), found.low, found.high)
            self._result.source_rows += len(found.rowids)
            self._bar.compared(rows)
        return tally

    def _sum_shards(self, slots: Sequence[int], register: Register) -> tuple[Progress, list[int]]:
        """The shards' sums by slot and block, and the slots that could be read to their end."""
        grid = self._result.grid
        tally, sound = Progress(grid.blocks * len(self._fleet.shards)), []
        counted = np.zeros(len(grid.windows), np.int64)
        ledgers: dict[int, Ledger] = {}
        checks: dict[int, Future[EtlError | None]] = {}
        with checkers() as checker:
            for event in self._heeding(ahead(self._shard_events(slots))):
                match event:
                    case _Begun():
                        ledgers[event.slot] = event.ledger
                        counted[:] = 0
                    case _Ended(slot, None):
                        sound.append(slot)
                        self._inspection.check_ledger(slot, ledgers[slot], self._result.windows, grid.windows, counted)
                        register.compare(slot, ledgers.pop(slot).rows_of(self._result.windows))
                        if self._scope.is_everything:
                            checks[slot] = checker.submit(self._witnesses[slot].fault, quick=self._scope.quick)
                    case _Ended(slot, error) if error:
                        self._inspection.damaged(slot, error)
                    case (slot, Portion() as portion):
                        self._sum_portion(slot, portion, tally, counted)
            for slot, check in checks.items():
                while wait([check], timeout=_TICK_S).not_done:
                    self._heed()
                self._heed()
                if error := check.result():
                    self._inspection.damaged(slot, error)
        return tally, sound

    def _sum_portion(self, slot: int, portion: Portion, tally: Progress, counted: Places) -> None:
        grid = self._result.grid
        found = self._fingerprinted(portion, None)
        windows = grid.place(found.rowids)
        inside = windows >= 0
        counted += np.bincount(windows[inside], minlength=len(counted))
        blocks = windows // grid.windows_per_block
        tally.add(slot * grid.blocks + blocks[inside], found.low[inside], found.high[inside])
        self._suspects |= {(int(block), slot) for block in np.unique(blocks[inside & (found.slots != slot)])}
        if not inside.all():
            self._findings.rows["extra"].add(map(int, found.rowids[~inside][:FIRST_ROWIDS]), int((~inside).sum()))
            self._findings.strays.add(slot)
        self._result.shard_rows += len(found.rowids)
        self._bar.compared(len(found.rowids))

    def _shard_events(self, slots: Sequence[int]) -> Iterator[_Begun | tuple[int, Portion] | _Ended]:
        """Each shard's ledger, rows and end, or error. When its end is told, nobody has its file open."""
        coverage = self._scope.coverage(self._result.windows, self._result.grid.coverage)
        for slot in slots:
            try:
                ledger, pieces = self._pieces(slot, coverage)
                yield _Begun(slot, ledger)
                expected = int(np.maximum(ledger.rows_of(self._result.grid.windows), 0).sum())
                rows = self._witnesses[slot].rows(pieces, read_types=self._read_types, expected=expected)
                yield from ((slot, portion) for portion in rows)
                yield _Ended(slot, None)
            except EtlError as error:
                yield _Ended(slot, error)

    def _pieces(self, slot: int, coverage: Coverage) -> tuple[Ledger, list[RowidRange]]:
        rows = max(1, min(READ_ROWS, int(limits.READ_TASK_BYTES / self._row_bytes)))
        return self._witnesses[slot].pieces(coverage, rows=rows)

    # -- where they differ ---------------------------------------------------------------------------------------------

    def _trace(self, block: int, shards: Progress, slots: Sequence[int]) -> None:
        """Finds the slots, then the rows, that make a block differ."""
        grid, coverage = self._result.grid, self._result.grid.of_block(block)
        routed = Progress(len(self._fleet.shards))
        for portion in self._heeding(of_source(self._source, coverage, self._read_types)):
            found = self._fingerprinted(portion, None)
            routed.add(found.slots, found.low, found.high)
        differing = set(routed.differing(shards.every(grid.blocks, block)))
        differing = {slot for slot in slots if slot in differing or (block, slot) in self._suspects}
        if not differing:
            return
        for portion in self._heeding(of_source(self._source, coverage, self._read_types)):
            parts = [part for slot in sorted(differing) for part in self._rows_of(slot, portion.stretch)]
            classify(
                self._fingerprinted(portion, None),
                Fingerprinted.joined(parts),
                read=differing,
                equal=set(slots) - differing,
                into=self._findings,
                grid=grid,
            )

    def _rows_of(self, slot: int, stretch: RowidRange) -> Iterator[Fingerprinted]:
        """A shard's rows in a stretch."""
        ledger, pieces = self._pieces(slot, ranges.intersect(self._result.grid.coverage, (stretch,)))
        rows = self._witnesses[slot].rows(pieces, read_types=self._read_types, expected=ledger.rows_about(stretch))
        for portion in rows:
            yield self._fingerprinted(portion, slot)

    def _fingerprinted(self, portion: Portion, slot: int | None) -> Fingerprinted:
        """The portion's rows with the slot they were read in, or, given none, that which each one's key asks for."""
        table, frame = self._source.table, portion.frame
        low, high = digest.fingerprints(frame, table, portion.read_types)
        if slot is None:
            keys = partition.keys(frame, table, portion.read_types, utf8=self._utf8)
            slots = partition.slots(keys, self._map).astype(np.int64)
        else:
            slots = np.full(frame.height, slot)
        return Fingerprinted(frame[ROWID].to_numpy(), slots, low, high)

    def _heeding(self, items: Iterator[T]) -> Iterator[T]:
        """The items, until a signal comes."""
        for item in items:
            self._heed()
            yield item

    def _heed(self) -> None:
        if self._stop.is_set():
            raise Stopped
