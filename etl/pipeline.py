"""The load: one reader thread, the writer threads, and this thread, which keeps the books."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, Full, SimpleQueue
from typing import Protocol

from etl import budget, observe
from etl.manifest import Entry, Manifest
from etl.model import RowidRange, ShardMap
from etl.reader import WindowRead, read_all
from etl.shard import Shard
from etl.source import Source
from etl.survey import Survey
from etl.writer import Committed, Routed, Writer

_TICK_S = 0.2
_FLUSH_WINDOWS = 500
_FLUSH_S = 30.0


class Watcher(Protocol):
    """What the load tells of itself while it goes on."""

    def window(self, entry: Entry) -> None:
        """A window is committed in every shard."""

    def tick(self) -> None:
        """Some time has passed."""


@dataclass
class _Pending:
    """A window on its way: what was read of it, and how many shards have yet to commit it."""

    read: WindowRead
    remaining: int
    write_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


@dataclass
class Load:
    """One load: threads, queues between them, and the windows in flight."""

    source: Source
    survey: Survey
    shards: Sequence[Shard]
    shard_map: ShardMap
    manifest: Manifest
    watcher: Watcher
    run_id: str
    writers: int
    stop: threading.Event
    """Set from outside, it lets the windows in flight commit and ends the load."""
    partial: Mapping[RowidRange, Mapping[int, int]] = field(default_factory=dict)
    """Rows by slot of windows that only some shards lack."""

    def run(self) -> None:
        """Loads every window of the survey, or those that were begun when `stop` was set. Raises the first error."""
        events: SimpleQueue[WindowRead | Committed | _Ended] = SimpleQueue()
        failed = threading.Event()
        count = max(1, min(self.writers, len(self.shards)))
        max_open = max(1, budget.max_open_shards() // count)
        cache_kib = budget.cache_kib(min(len(self.shards), max_open * count))
        writers = [
            Writer(
                {slot: self.shards[slot] for slot in range(number, len(self.shards), count)},
                run_id=self.run_id,
                max_open=max_open,
                cache_kib=cache_kib,
                report=events.put,
            )
            for number in range(count)
        ]

        def hand_over(routed: Routed) -> bool:
            for writer in writers:
                _put(writer, routed)
            return not (failed.is_set() or self.stop.is_set())

        def read() -> None:
            try:
                if not self.stop.is_set():
                    read_all(self.source, self.survey, self.shard_map, report=events.put, hand_over=hand_over)
            finally:
                for writer in writers:
                    _put(writer, None)

        works: list[Callable[[], None]] = [read, *(writer.run for writer in writers)]
        threads = [threading.Thread(target=_guarded, args=(work, events, failed), name="etl") for work in works]
        for thread in threads:
            thread.start()
        self._keep_books(events, threads)

    def _keep_books(self, events: SimpleQueue[WindowRead | Committed | _Ended], threads: Sequence[threading.Thread]) -> None:
        pending: dict[RowidRange, _Pending] = {}
        errors: list[BaseException] = []
        running = len(threads)
        flushed = time.monotonic()
        while running:
            try:
                event = events.get(timeout=_TICK_S)
            except Empty:
                self.watcher.tick()
                continue
            match event:
                case WindowRead():
                    done_before = len(self.partial.get(event.window, ()))
                    pending[event.window] = _Pending(event, len(self.shards) - done_before)
                case Committed():
                    for window in event.windows:
                        self._committed(window, event.ms / len(event.windows), pending)
                case _Ended(error):
                    running -= 1
                    if error is not None:
                        errors.append(error)
            if self.manifest.waiting >= _FLUSH_WINDOWS or time.monotonic() - flushed >= _FLUSH_S:
                self.manifest.flush()
                flushed = time.monotonic()
            self.watcher.tick()
        for thread in threads:
            thread.join()
        self.manifest.flush()
        if errors:
            raise errors[0]

    def _committed(self, window: RowidRange, ms: float, pending: dict[RowidRange, _Pending]) -> None:
        state = pending[window]
        state.write_ms += ms
        state.remaining -= 1
        if state.remaining:
            return
        del pending[window]
        read, before = state.read, self.partial.get(window, {})
        rows = [before.get(slot, rows) for slot, rows in enumerate(read.rows_by_slot)]
        entry = Entry(
            run_id=self.run_id,
            window=window,
            rows_by_shard=list(zip(self.shard_map.shards, rows, strict=True)),
            committed_at=observe.now(),
            bytes=read.bytes,
            widened=read.widened,
            read_ms=read.read_ms,
            route_ms=read.route_ms,
            write_ms=state.write_ms,
            started_at=read.started_at,
        )
        self.manifest.add(entry)
        self.watcher.window(entry)


def _put(writer: Writer, routed: Routed | None) -> None:
    while writer.alive:  # one that failed takes nothing any more
        try:
            return writer.inbox.put(routed, timeout=_TICK_S)
        except Full:
            continue


def _guarded(work: Callable[[], None], events: SimpleQueue[WindowRead | Committed | _Ended], failed: threading.Event) -> None:
    try:
        work()
    except BaseException as error:  # a thread's error belongs to the run; connectorx panics are BaseExceptions
        failed.set()
        events.put(_Ended(error))
    else:
        events.put(_Ended(None))
