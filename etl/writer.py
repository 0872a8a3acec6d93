"""The writer threads: each owns its shards, and nobody else touches them while it runs."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Queue

from etl import budget, observe
from etl.model import Batch, RowidRange
from etl.partitioning import Partitioned
from etl.shard import Shard


@dataclass(frozen=True, slots=True)
class Routed:
    """A batch that has been read and partitioned by shard."""

    batch: Batch
    rows: Partitioned
    statement: str
    """The insert that takes these rows' lanes."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One shard's commit: the windows that are now done there."""

    slot: int
    windows: tuple[RowidRange, ...]
    ms: float
    """Time spent inserting and committing them."""


class Writer:
    """Writes what its inbox brings into the shards it owns, in the inbox's order, until it brings None."""

    def __init__(
        self,
        shards: Mapping[int, Shard],
        *,
        run_id: str,
        max_open: int,
        cache_kib: int,
        report: Callable[[Committed], None],
    ) -> None:
        self.inbox: Queue[Routed | None] = Queue(maxsize=1)
        self._shards = shards
        self._run_id = run_id
        self._max_open = max_open
        self._cache_kib = cache_kib
        self._report = report
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._busy_ms = dict.fromkeys(shards, 0.0)
        self.alive = True

    def run(self) -> None:
        """Works until the inbox brings None, then commits; on an error all that is not committed is rolled back."""
        try:
            while (routed := self.inbox.get()) is not None:
                self._write(routed)
            for slot in self._shards:
                self._commit(slot)
        finally:
            self.alive = False
            for shard in self._open.values():
                shard.close()

    def _write(self, routed: Routed) -> None:
        for slot, shard in self._shards.items():
            if routed.batch.lacking is not None and slot not in routed.batch.lacking:
                continue
            start = time.perf_counter()
            rows = routed.rows.of(slot)
            if rows.num_rows:
                self._make_room(slot)
                shard.insert(rows, routed.statement, cache_kib=self._cache_kib)
            for window, window_rows in zip(routed.batch.windows, routed.rows.window_rows[:, slot], strict=True):
                shard.note(window, int(window_rows))
            self._busy_ms[slot] += (time.perf_counter() - start) * 1000
            if shard.rows_waiting >= budget.TRANSACTION_ROWS or shard.seconds_waiting >= budget.TRANSACTION_S:
                self._commit(slot)

    def _commit(self, slot: int) -> None:
        if not self._shards[slot].is_waiting:
            return
        self._make_room(slot)
        start = time.perf_counter()
        windows = self._shards[slot].commit(self._run_id, observe.now().isoformat(), cache_kib=self._cache_kib)
        ms = self._busy_ms[slot] + (time.perf_counter() - start) * 1000
        self._busy_ms[slot] = 0.0
        self._report(Committed(slot, tuple(windows), ms))

    def _make_room(self, slot: int) -> None:
        """Closes the shard that has waited longest where one more open file would be too many; it commits first."""
        while slot not in self._open and len(self._open) >= self._max_open:
            oldest, shard = next(iter(self._open.items()))
            self._commit(oldest)
            shard.close()
            del self._open[oldest]
        self._open[slot] = self._shards[slot]
        self._open.move_to_end(slot)
