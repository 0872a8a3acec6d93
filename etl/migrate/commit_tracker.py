"""The windows in flight of a load, until every shard has committed them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from etl.core.model import RowidRange, ShardMap
from etl.engines.reader import WindowRead
from etl.engines.writer import Committed
from etl.runtime import log
from etl.shards.manifest import Entry, Manifest
from etl.status.progress import Progress

_FLUSH_WINDOWS = 500
_FLUSH_S = 30.0


@dataclass
class _InFlight:
    """A window that has been read and that some shard has not committed yet."""

    read: WindowRead
    slots: int
    """How many shards have to commit it."""
    remaining: int
    """How many of them have not yet."""
    write_ms: float = 0.0


class CommitTracker:
    """Adds each window that every shard has committed to the manifest and the log. Used by one thread."""

    def __init__(
        self,
        shard_map: ShardMap,
        manifest: Manifest,
        progress: Progress,
        *,
        run_id: str,
        before: Mapping[RowidRange, Mapping[int, int]],
        tick: Callable[[], None],
    ) -> None:
        self._shard_map = shard_map
        self._manifest = manifest
        self._progress = progress
        self._run_id = run_id
        self._tick = tick
        self._before = before
        """Windows that lost shards lack: window → slot of another shard → rows that it has."""
        self._windows: dict[RowidRange, _InFlight] = {}
        self._flushed = time.monotonic()

    def enter(self, event: WindowRead | Committed) -> None:
        match event:
            case WindowRead():
                remaining = len(self._shard_map.shards) - len(self._before.get(event.window, ()))
                self._windows[event.window] = _InFlight(event, remaining, remaining)
                self._progress.read(event.rows, event.window.span, event.bytes)
            case Committed():
                states = [self._windows[window] for window in event.windows]
                self._progress.wrote(
                    self._shard_map.shards[event.slot],
                    rows=sum(state.read.rows_by_slot[event.slot] for state in states),
                    rowids=sum(state.read.window.span / state.slots for state in states),
                    ms=event.ms,
                )
                for window in event.windows:
                    self._committed(window, event.ms / len(event.windows))

    def tick(self) -> None:
        """Does what is due: progress, and the manifest's next file."""
        self._progress.windows_in_flight = len(self._windows)
        self._tick()
        if self._manifest.waiting >= _FLUSH_WINDOWS or time.monotonic() - self._flushed >= _FLUSH_S:
            self._manifest.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._manifest.flush()

    def _committed(self, window: RowidRange, ms: float) -> None:
        state = self._windows[window]
        state.write_ms += ms
        state.remaining -= 1
        if state.remaining:
            return
        del self._windows[window]
        read, before = state.read, self._before.get(window, {})
        rows = [before.get(slot, rows) for slot, rows in enumerate(read.rows_by_slot)]
        entry = Entry(
            run_id=self._run_id,
            window=window,
            rows_by_shard=list(zip(self._shard_map.shards, rows, strict=True)),
            committed_at=log.now(),
            bytes=read.bytes,
            widened=read.widened,
            read_ms=read.read_ms,
            route_ms=read.route_ms,
            write_ms=state.write_ms,
            started_at=read.started_at,
        )
        self._manifest.add(entry)
        self._progress.window(entry)
        log.event(
            "window",
            first_rowid=window.first_rowid,
            last_rowid=window.last_rowid,
            rows=sum(rows),
            rows_per_s=round(self._progress.rows_per_s(time.monotonic())),
            bytes=read.bytes,
            read_ms=round(read.read_ms, 1),
            route_ms=round(read.route_ms, 1),
            write_ms=round(state.write_ms, 1),
        )
