"""Runs a load in this process: a reader thread, writer threads, and the calling thread, which runs the tracker."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from queue import Empty, Full, SimpleQueue
from typing import Protocol

from etl.core.model import ReadTask, ShardMap
from etl.engines import reader
from etl.engines.memory_gate import MemoryGate
from etl.engines.reader import WindowRead
from etl.engines.writer import Committed, Routed, Writer
from etl.runtime import limits
from etl.runtime.rate_limit import RateLimit
from etl.shards.shard import Shard
from etl.shards.transaction import Transaction
from etl.sources.chunker import Chunker
from etl.sources.reader import Source

_TICK_S = 0.2


class Tracker(Protocol):
    """Follows windows in flight; only the calling thread uses it."""

    def enter(self, event: WindowRead | Committed) -> None:
        """Records what a thread has done."""
        ...

    def tick(self) -> None:
        """Does what is due by the clock."""
        ...

    def close(self) -> None:
        """Is called once, after the last event, if there was no error."""
        ...


def load(
    source: Source,
    chunker: Chunker,
    shards: Sequence[Shard],
    shard_map: ShardMap,
    tracker: Tracker,
    *,
    run_id: str,
    writers: int,
    indexed: bool,
    max_rate: int | None,
    stop: threading.Event,
) -> None:
    """Loads every window of the chunker, or, once `stop` is set, only those that were begun.

    `indexed` says that the shards' indexes are kept up meanwhile. At most `max_rate` rows a second are read. Raises the
    first error of any thread after all have ended; what was not committed is then rolled back.
    """
    events: SimpleQueue[WindowRead | Committed | None] = SimpleQueue()
    errors: SimpleQueue[BaseException] = SimpleQueue()
    count = min(writers, len(shards))
    gate = MemoryGate(writers=count)
    all_writers = _writers(shards, run_id=run_id, count=count, indexed=indexed, report=events.put, taken=gate.taken)

    limit = RateLimit(max_rate)

    def goes_on() -> bool:
        return errors.empty() and not stop.is_set()

    def send(routed: Routed) -> bool:
        for writer in all_writers:
            _put(writer, routed)
        limit.wait(routed.rows.cells.num_rows, goes_on)
        return goes_on()

    def read() -> None:
        try:
            if not stop.is_set():
                reader.run(source, chunker, shard_map, admit=gate.admit, report=events.put, send=send)
        finally:
            for writer in all_writers:
                _put(writer, None)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again below, in the calling thread
            errors.put(error)
            gate.open()
        events.put(None)  # wakes the calling thread

    works: list[Callable[[], None]] = [read, *(writer.run for writer in all_writers)]
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
            gate.open()
    for thread in threads:
        thread.join()
    if errors.empty():
        tracker.close()
    if not errors.empty():
        raise errors.get()


def _writers(
    shards: Sequence[Shard],
    *,
    run_id: str,
    count: int,
    indexed: bool,
    report: Callable[[Committed], None],
    taken: Callable[[ReadTask], None],
) -> list[Writer]:
    """The writers; the shard at slot s belongs to writer `s mod count`.

    Rows in random order touch nearly every page of an index. So shards with indexes are written one after the other,
    each with the whole cache and as many rows as may be held.
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
