"""One thread's connections of a comparison: the source, and some shards attached to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etl.core.ranges import Coverage
from etl.shards.comparison import SAME, SHARDS_AT_ONCE, ComparedRows, Comparison
from etl.shards.ledger_arrays import Numbers
from etl.sqlite.adbc import Connection, ShardError
from etl.verify.blocks import Blocks

_FEW_CONNECTIONS = 2
"""The page caches of more are freed after each block."""


@dataclass(frozen=True, slots=True)
class Part:
    """One shard's rows of one block."""

    rows_by_window: Numbers
    is_equal: bool
    """Whether each is the same in the source, and in the shard of its key."""


@dataclass(frozen=True, slots=True)
class ComparedBlock:
    """What was found in a block."""

    number: int
    parts: Mapping[int, Part]
    """By slot; none of a shard that cannot be read."""
    expected: Numbers | int
    """The source's rows: their number, or by slot, with the shape (slots,)."""
    is_changed: bool
    """Whether a program changed the source meanwhile."""


class Worker:
    """Compares blocks of some shards; used by one thread at a time."""

    def __init__(
        self,
        comparison: Comparison,
        shards: Mapping[int, Path],
        check_stop: Callable[[], None],
        open_: Callable[[], Connection],
    ) -> None:
        """`open_` gives a connection to the source that somebody else closes."""
        self._comparison = comparison
        self._check_stop = check_stop
        self.errors: dict[int, ShardError] = {}
        """By slot, why a shard can be read no further."""
        self._connections: list[Connection] = []
        self._attached: dict[int, tuple[Connection, Path, int]] = {}
        """Slot → the connection that has the shard, and under which number. The last one has the smallest shards."""
        for i, slot in enumerate(sorted(shards, key=lambda slot: -_size(shards[slot]))):
            number = i % SHARDS_AT_ONCE
            if number == 0:
                self._connections.append(open_())
            self._attached[slot] = (self._connections[-1], shards[slot], number)
            try:
                comparison.attach(*self._attached[slot])
            except ShardError as error:
                self.errors[slot] = error

    def compare(self, blocks: Blocks, number: int, *, slots: int | None) -> ComparedBlock:
        """Compares a block; the source's rows are counted by slot where `slots` says how many there are."""
        source, pieces = self._connections[0], blocks.pieces(number)
        version = self._comparison.version(source)
        parts = {}
        for slot in self._attached:
            rowids, is_equal = [], True
            for rows in self.rows(slot, pieces):
                rowids.append(rows.rowids)
                is_equal &= bool((rows.states == SAME).all() and (rows.slots == slot).all())
            if slot not in self.errors:
                parts[slot] = Part(blocks.rows_by_window(number, rowids), is_equal)
        expected = self._count(pieces) if slots is None else self._count_by_slot(pieces, slots)
        is_changed = self._comparison.version(source) != version
        if len(self._connections) > _FEW_CONNECTIONS:
            for connection in self._connections:
                connection.pragma("shrink_memory")
        return ComparedBlock(number, parts, expected, is_changed)

    def rows(self, slot: int, pieces: Coverage) -> Iterator[ComparedRows]:
        """A shard's rows in some ranges; none from an error on."""
        if slot in self.errors:
            return
        try:
            for piece in pieces:
                for rows in self._comparison.rows(*self._attached[slot], piece):
                    yield rows
                    self._check_stop()
        except ShardError as error:
            self.errors[slot] = error

    def all_rows(self, slot: int, pieces: Coverage) -> ComparedRows:
        """A shard's rows in some ranges, as one. Raises ShardError."""
        rows = ComparedRows.joined(list(self.rows(slot, pieces)))
        if slot in self.errors:
            raise self.errors[slot]
        return rows

    def _count(self, pieces: Coverage) -> int:
        return sum(self._comparison.count(self._connections[0], piece) for piece in pieces)

    def _count_by_slot(self, pieces: Coverage, slots: int) -> Numbers:
        counts = np.zeros(slots, np.int64)
        for piece in pieces:
            for rows in self._comparison.source_rows(self._connections[0], piece):
                counts += np.bincount(rows.slots, minlength=slots)
        return counts


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def opened(comparison: Comparison, shards: Mapping[int, Path], check_stop: Callable[[], None]) -> Iterator[Worker]:
    """A worker for these shards, by slot."""
    with ExitStack() as stack:
        yield Worker(comparison, shards, check_stop, lambda: stack.enter_context(comparison.open()))
