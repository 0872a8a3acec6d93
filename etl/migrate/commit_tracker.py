"""The books of a load: which windows are on their way, and which every shard has committed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from etl.core.model import RowidRange, ShardMap
from etl.engines.reader import WindowRead
from etl.engines.writer import Committed
from etl.runtime import log
from etl.shards.manifest import Entry, Manifest
from etl.status.watch import Watch

_FLUSH_WINDOWS = 500
_FLUSH_S = 30.0


@dataclass
class _OnItsWay:
    """A window that has been read, and how many shards have yet to commit it."""

    read: WindowRead
    slots: int
    """How many shards lacked it when it was read."""
    remaining: int
    write_ms: float = 0.0


class CommitTracker:
    """Kept by one thread. A window that every shard has committed goes into the manifest and the log."""

    def __init__(
        self,
        shard_map: ShardMap,
        manifest: Manifest,
        watch: Watch,
        *,
        run_id: str,
        before: Mapping[RowidRange, Mapping[int, int]],
    ) -> None:
        self._shard_map = shard_map
        self._manifest = manifest
        self._watch = watch
        self._run_id = run_id
        self._before = before
        """Windows that lost shards lack: window → slot of another shard → rows that it has."""
        self._windows: dict[RowidRange, _OnItsWay] = {}
        self._flushed = time.monotonic()

    def enter(self, event: WindowRead | Committed) -> None:
        """Takes in what a thread has done."""
        match event:
            case WindowRead():
                remaining = len(self._shard_map.shards) - len(self._before.get(event.window, ()))
                self._windows[event.window] = _OnItsWay(event, remaining, remaining)
                self._watch.read(event.rows, event.window.span, event.bytes)
            case Committed():
                states = [self._windows[window] for window in event.windows]
                self._watch.wrote(
                    self._shard_map.shards[event.slot],
                    rows=sum(state.read.rows_by_slot[event.slot] for state in states),
                    rowids=sum(state.read.window.span / state.slots for state in states),
                    ms=event.ms,
                )
                for window in event.windows:
                    self._committed(window, event.ms / len(event.windows))

    def tick(self) -> None:
        """Does what is due by the clock."""
        self._watch.tick(in_flight=len(self._windows))
        if self._manifest.waiting >= _FLUSH_WINDOWS or time.monotonic() - self._flushed >= _FLUSH_S:
            self._manifest.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes what the manifest still lacks."""
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
        self._watch.window(entry)
