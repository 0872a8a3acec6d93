"""A writer thread: it owns its shards, and nobody else touches them while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Queue

from etl.core.model import ReadTask, RowidRange
from etl.core.partition import RowsByShard
from etl.runtime import limits, log
from etl.shards.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Routed:
    """A read task's rows by shard."""

    task: ReadTask
    rows: RowsByShard
    statement: str
    """The INSERT for these rows' read types."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One shard's commit: the windows that are now done there."""

    slot: int
    windows: tuple[RowidRange, ...]
    ms: float
    """Time spent inserting and committing them."""


class Writer:
    """Writes what comes into its inbox to the shards it owns, in that order, until None comes."""

    def __init__(
        self,
        transactions: Mapping[int, Transaction],
        *,
        run_id: str,
        hold_rows: float,
        max_open: int,
        report: Callable[[Committed], None],
        taken: Callable[[ReadTask], None],
    ) -> None:
        """`taken` is called for each read task that is written, or held until there are more."""
        self.inbox: Queue[Routed | None] = Queue(maxsize=1)
        self._transactions = transactions
        self._run_id = run_id
        self._hold_rows = hold_rows
        self._max_open = max_open
        self._report = report
        self._taken = taken
        self._open: dict[int, Transaction] = {}
        self._held: list[Routed] = []
        self._busy_ms = dict.fromkeys(transactions, 0.0)
        self.alive = True

    def run(self) -> None:
        """Works until None comes, then commits; on an error, what is not committed is rolled back."""
        try:
            while (routed := self.inbox.get()) is not None:
                self._held.append(routed)
                if self._held_enough:
                    self._write_held()
                self._taken(routed.task)
            self._write_held()
            for slot in self._transactions:
                self._commit(slot)
        finally:
            self.alive = False
            for transaction in self._open.values():
                transaction.close()

    @property
    def _held_enough(self) -> bool:
        rows = sum(routed.rows.cells.num_rows for routed in self._held)
        held_bytes = sum(routed.task.bytes for routed in self._held)
        return rows >= self._hold_rows or held_bytes >= limits.HELD_BYTES

    def _write_held(self) -> None:
        """Writes what is held, shard by shard, so that a shard of few rows is opened once for many read tasks."""
        for slot in self._transactions:
            for routed in self._held:
                if routed.task.slots is None or slot in routed.task.slots:
                    self._write(routed, slot)
        self._held = []

    def _write(self, routed: Routed, slot: int) -> None:
        transaction = self._transactions[slot]
        start = time.perf_counter()
        rows = routed.rows.of(slot)
        if rows.num_rows:
            self._make_room(slot)
            transaction.insert(rows, routed.statement, breaks_not_null=routed.rows.breaks_not_null)
        for window, window_rows in zip(routed.task.windows, routed.rows.window_rows[:, slot], strict=True):
            transaction.note(window, int(window_rows))
        self._busy_ms[slot] += (time.perf_counter() - start) * 1000
        if transaction.rows >= limits.TRANSACTION_ROWS or transaction.seconds_waiting >= limits.TRANSACTION_S:
            self._commit(slot)

    def _commit(self, slot: int) -> None:
        transaction = self._transactions[slot]
        if not transaction.is_waiting:
            return
        self._make_room(slot)
        start = time.perf_counter()
        windows = transaction.commit(self._run_id, log.now().isoformat())
        ms = self._busy_ms[slot] + (time.perf_counter() - start) * 1000
        self._busy_ms[slot] = 0.0
        self._report(Committed(slot, windows, ms))

    def _make_room(self, slot: int) -> None:
        """Opens the slot's shard; first commits and closes another one if one more open file would be too many.

        Shards are visited in turn, so the one opened last is the one that is needed again latest.
        """
        if slot not in self._open and len(self._open) >= self._max_open:
            latest = next(reversed(self._open))
            self._commit(latest)
            self._open.pop(latest).close()
        self._open[slot] = self._transactions[slot]
