"""One thread's share of a comparison: some shards on one connection, block by block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etl.core import ranges
from etl.shards.comparison import SAME, ComparedRows, Comparison
from etl.shards.ledger_arrays import Numbers
from etl.sqlite.adbc import Connection, ShardError
from etl.verify.blocks import Blocks


@dataclass(frozen=True, slots=True)
class Part:
    """One shard's rows of one block."""

    rows_by_window: Numbers
    is_equal: bool
    """Whether each is the same in the source, and in the shard of its key."""


class Worker:
    """Compares the blocks of some shards; used by one thread at a time."""

    def __init__(
        self, comparison: Comparison, connection: Connection, shards: Mapping[int, Path], check_stop: Callable[[], None]
    ) -> None:
        self._comparison = comparison
        self._connection = connection
        self._numbers = {slot: (path, number) for number, (slot, path) in enumerate(shards.items())}
        self._check_stop = check_stop
        self._lock = threading.Lock()
        self.errors: dict[int, ShardError] = {}
        """By slot, why a shard can be read no further."""
        for slot, (path, number) in self._numbers.items():
            try:
                comparison.attach(connection, path, number)
            except ShardError as error:
                self.errors[slot] = error

    def rows(self, slot: int, pieces: ranges.Coverage) -> Iterator[ComparedRows]:
        """A shard's rows in some ranges; none from an error on."""
        if slot in self.errors:
            return
        try:
            for piece in pieces:
                for rows in self._comparison.rows(self._connection, *self._numbers[slot], piece):
                    yield rows
                    self._check_stop()
        except ShardError as error:
            self.errors[slot] = error

    def compare(self, blocks: Blocks, block: int, *, shrink: bool) -> dict[int, Part]:
        """The parts of those shards that can be read; with `shrink` the page cache is freed then."""
        parts = {}
        with self._lock:
            for slot in self._numbers:
                rowids, is_equal = [], True
                for rows in self.rows(slot, blocks.pieces(block)):
                    rowids.append(rows.rowids)
                    is_equal &= bool((rows.states == SAME).all() and (rows.slots == slot).all())
                if slot not in self.errors:
                    parts[slot] = Part(blocks.rows_by_window(block, rowids), is_equal)
            if shrink:
                self._connection.pragma("shrink_memory")
        return parts

    def all_rows(self, slot: int, pieces: ranges.Coverage) -> ComparedRows:
        """A shard's rows in some ranges, as one. Raises ShardError."""
        rows = ComparedRows.joined(list(self.rows(slot, pieces)))
        if slot in self.errors:
            raise self.errors[slot]
        return rows


@contextmanager
def opened(comparison: Comparison, shards: Mapping[int, Path], check_stop: Callable[[], None]) -> Iterator[Worker]:
    """A worker for up to SHARDS_AT_ONCE shards, by slot."""
    with comparison.open() as connection:
        yield Worker(comparison, connection, shards, check_stop)
