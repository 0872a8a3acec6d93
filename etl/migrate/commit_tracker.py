"""The windows in flight of a load, until every shard has committed them."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
    """A window that has been read, or a part of it, and that some shard has not committed yet."""

    slots: int
    """How many shards have to commit it."""
    remaining: int
    """How many rowids they have not yet, summed over these shards."""
    reads: dict[RowidRange, WindowRead] = field(default_factory=dict)
    """By part. Only the joined windows of lost shards come in parts."""
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
        self._lost = sorted(before)
        self._windows: dict[RowidRange, _InFlight] = {}
        self._flushed = time.monotonic()

    def enter(self, event: WindowRead | Committed) -> None:
        match event:
            case WindowRead():
                window = self._whole(event.window)
                if window not in self._windows:
                    slots = len(self._shard_map.shards) - len(self._before.get(window, ()))
                    self._windows[window] = _InFlight(slots, remaining=slots * window.span)
                self._windows[window].reads[event.window] = event
                self._progress.read(self._to_write(window, event.rows_by_slot), event.window.span, event.bytes)
            case Committed():
                states = [self._windows[self._whole(part)] for part in event.windows]
                pairs = list(zip(event.windows, states, strict=True))
                self._progress.wrote(
                    self._shard_map.shards[event.slot],
                    rows=sum(state.reads[part].rows_by_slot[event.slot] for part, state in pairs),
                    rowids=sum(part.span / state.slots for part, state in pairs),
                    ms=event.ms,
                )
                for part in event.windows:
                    self._committed(part, event.ms / len(event.windows))

    def tick(self) -> None:
        """Does what is due: progress, and the manifest's next file."""
        self._progress.windows_in_flight = len(self._windows)
        self._tick()
        if self._manifest.waiting >= _FLUSH_WINDOWS or time.monotonic() - self._flushed >= _FLUSH_S:
            self._manifest.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._manifest.flush()

    def _whole(self, part: RowidRange) -> RowidRange:
        """The window of a lost shard that this is a part of, or itself."""
        at = bisect_right(self._lost, part.first_rowid, key=lambda window: window.first_rowid) - 1
        return self._lost[at] if at >= 0 and part in self._lost[at] else part

    def _to_write(self, window: RowidRange, by_slot: Sequence[int]) -> int:
        """The rows of those slots that lack the window."""
        before = self._before.get(window, {})
        return sum(rows for slot, rows in enumerate(by_slot) if slot not in before)

    def _committed(self, part: RowidRange, ms: float) -> None:
        window = self._whole(part)
        state = self._windows[window]
        state.write_ms += ms
        state.remaining -= part.span
        if state.remaining:
            return
        del self._windows[window]
        reads, before = list(state.reads.values()), self._before.get(window, {})
        by_slot = [sum(rows) for rows in zip(*(read.rows_by_slot for read in reads), strict=True)]
        rows = [before.get(slot, rows) for slot, rows in enumerate(by_slot)]
        written = self._to_write(window, by_slot)
        read_bytes, read_ms = sum(read.bytes for read in reads), sum(read.read_ms for read in reads)
        route_ms = sum(read.route_ms for read in reads)
        entry = Entry(
            run_id=self._run_id,
            window=window,
            rows_by_shard=list(zip(self._shard_map.shards, rows, strict=True)),
            committed_at=log.now(),
            bytes=read_bytes,
            widened=reads[-1].widened,
            read_ms=read_ms,
            route_ms=route_ms,
            write_ms=state.write_ms,
            started_at=reads[0].started_at,
        )
        self._manifest.add(entry)
        self._progress.window(entry, rows=written)
        log.event(
            "window",
            first_rowid=window.first_rowid,
            last_rowid=window.last_rowid,
            rows=written,
            rows_per_s=round(self._progress.rows_per_s(time.monotonic())),
            bytes=read_bytes,
            read_ms=round(read_ms, 1),
            route_ms=round(route_ms, 1),
            write_ms=round(state.write_ms, 1),
        )
