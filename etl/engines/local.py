"""The load: a reader thread, the writer threads, and the calling thread, which keeps the tracker."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from queue import Empty, Full, SimpleQueue
from typing import Protocol

from etl.core.model import ReadTask, ShardMap
from etl.engines.reader import WindowRead, read_all
from etl.engines.writer import Committed, Routed, Writer
from etl.runtime import limits
from etl.shards.shard import Shard
from etl.shards.transaction import Transaction
from etl.sources.chunker import Chunker
from etl.sources.reader import Source

_TICK_S = 0.2


class Tracker(Protocol):
    """Keeps count of windows in flight; used by the calling thread alone."""

    def enter(self, event: WindowRead | Committed) -> None:
        """Takes in what a thread has done."""
        ...

    def tick(self) -> None:
        """Does what is due by the clock."""
        ...

    def close(self) -> None:
        """Is called once, after the last event of a load without errors."""
        ...


class _InFlight:
    """The batches that have been read, or are being read, and that some writer has not yet taken."""

    def __init__(self, *, writers: int) -> None:
        self._writers = writers
        self._left: dict[ReadTask, int] = {}
        """How many writers each batch still waits for."""
        self._changed = threading.Condition()
        self._is_over = False

    def admit(self, batch: ReadTask) -> None:
        """Returns when the batch fits in beside the others, or is alone."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._has_room(batch.bytes))
            self._left[batch] = self._writers

    def taken(self, batch: ReadTask) -> None:
        """Told by each writer once."""
        with self._changed:
            self._left[batch] -= 1
            if not self._left[batch]:
                del self._left[batch]
                self._changed.notify_all()

    def end(self) -> None:
        """Nobody waits any more: a writer that failed takes nothing."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _has_room(self, batch_bytes: int) -> bool:
        return not self._left or sum(batch.bytes for batch in self._left) + batch_bytes <= limits.IN_FLIGHT_BYTES


def load(
    source: Source,
    survey: Chunker,
    shards: Sequence[Shard],
    shard_map: ShardMap,
    tracker: Tracker,
    *,
    run_id: str,
    writers: int,
    indexed: bool,
    stop: threading.Event,
) -> None:
    """Loads every window of the survey, or, once `stop` is set, those that were begun.

    `indexed` says that the shards' indexes are kept up meanwhile. Raises the first error of any thread, when all have
    ended: whatever was not committed is then rolled back.
    """
    events: SimpleQueue[WindowRead | Committed | None] = SimpleQueue()
    errors: SimpleQueue[BaseException] = SimpleQueue()
    count = min(writers, len(shards))
    in_flight = _InFlight(writers=count)
    crew = _crew(shards, run_id=run_id, count=count, indexed=indexed, report=events.put, taken=in_flight.taken)

    def hand_over(routed: Routed) -> bool:
        for writer in crew:
            _put(writer, routed)
        return errors.empty() and not stop.is_set()

    def read() -> None:
        try:
            if not stop.is_set():
                read_all(source, survey, shard_map, admit=in_flight.admit, report=events.put, hand_over=hand_over)
        finally:
            for writer in crew:
                _put(writer, None)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again below, in the calling thread
            errors.put(error)
            in_flight.end()
        events.put(None)  # wakes the calling thread

    works: list[Callable[[], None]] = [read, *(writer.run for writer in crew)]
    threads = [threading.Thread(target=guarded, args=(work,), name="etl") for work in works]
    for thread in threads:
        thread.start()
    running = len(threads)
    while running:
        try:
            if errors.empty():
                tracker.tick()
            event = events.get(timeout=_TICK_S)
            if event is None:
                running -= 1
            else:
                tracker.enter(event)
        except Empty:
            continue
        except BaseException as error:  # noqa: BLE001 - as above; the threads end before it is raised
            errors.put(error)
            in_flight.end()
    for thread in threads:
        thread.join()
    if errors.empty():
        tracker.close()
    if not errors.empty():
        raise errors.get()


def _crew(
    shards: Sequence[Shard],
    *,
    run_id: str,
    count: int,
    indexed: bool,
    report: Callable[[Committed], None],
    taken: Callable[[ReadTask], None],
) -> list[Writer]:
    """The writers: shard at slot s belongs to writer s mod their number.

    Rows that come in any order touch nearly every page of an index: shards with indexes are written one after the
    other, each with all the cache that there is and as many rows as may be held.
    """
    max_open = 1 if indexed else max(1, limits.max_open_shards() // count)
    hold_rows = math.inf if indexed else limits.ROWS_PER_SHARD * len(shards)
    cache_kib = limits.cache_kib(min(len(shards), max_open * count), indexed=indexed)
    return [
        Writer(
            {slot: Transaction(shards[slot], cache_kib=cache_kib) for slot in range(number, len(shards), count)},
            run_id=run_id,
            hold_rows=hold_rows,
            max_open=max_open,
            report=report,
            taken=taken,
        )
        for number in range(count)
    ]


def _put(writer: Writer, routed: Routed | None) -> None:
    while writer.alive:  # one that failed takes nothing any more
        try:
            writer.inbox.put(routed, timeout=_TICK_S)
        except Full:
            continue
        else:
            return
