"""The progress of a run or a verification: what is done, how fast, and what is left. Arithmetic; the clock is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from etl.shards.manifest import Entry

PREPARE, LOAD, INDEX, DONE = "prepare", "load", "index", "done"
"""The phases of a run, in their order."""
VERIFY = "verify"
"""The only phase of a verification."""

_LOAD_S = 2.0
_INDEX_S = 0.25
"""Seconds to load a million rows, and to build one index of them (README). Only their ratio matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The progress at one moment, as the status file and the metrics show it."""

    phase: str
    fraction: float
    rows: int
    """Rows that are committed, each in its shard."""
    rows_read: int = 0
    """Rows that are read for the shards that lack them; those that are not yet committed are half done."""
    rows_updated: int = 0
    """Old rows that were replaced by what the source has now."""
    windows: int
    bytes: int
    rows_per_s: float
    eta_s: float | None
    rowids_todo: int
    rowids_done: int
    rowids_read: int = 0
    last_rowid: int | None
    """Every row up to here is in the shards, as far as the run knows."""
    windows_in_flight: int
    slowest_shard: int | None
    seconds: dict[str, float]


class Progress:
    """The counters of one command. One thread adds to them; others may read them at any moment."""

    def __init__(self) -> None:
        self.phase = PREPARE
        self.last_rowid: int | None = None
        """Every row up to here is in the shards, if windows were loaded in their order."""
        self.is_last_rowid_known = False
        self.rows_read = 0
        self.rows_updated = 0
        """Old rows that were replaced, by a refresh or because they were updated (CURSOR_COLUMN)."""
        self.rows_done = 0
        """Rows that are committed, each in its shard; in a verification, rows that are compared."""
        self.rows = 0
        """Rows that this run has written, of the windows that every shard has committed."""
        self.windows = 0
        self.bytes = 0
        self.windows_in_flight = 0
        """Windows that have been read and that some shard has not committed yet."""
        self.rowids_todo = 0
        self.rowids_read = 0
        self.rowids_done = 0.0
        """A window counts by the share of its shards that have committed it."""
        self.shard_rows: dict[int, int] = {}
        self.shard_write_s: dict[int, float] = {}
        self.indexed = 0
        """Shards that are finished."""
        self.seconds: dict[str, float] = {}
        """By stage: read, route and write are summed over threads; load and index are elapsed time."""
        self.started_s: float | None = None
        self.ended_s: float | None = None
        """When the load and its indexes began, and when they ended."""
        self._expected_rows: int | None = None
        self._load_share = 1.0

    def resume(self, last_rowid: int | None) -> None:
        """Sets what the ledgers say is done; None if they are empty."""
        self.last_rowid, self.is_last_rowid_known = last_rowid, True

    def begin_load(
        self, *, now_s: float, rowids_todo: int, expected_rows: int | None, indexes: int, shard_rows: Mapping[int, int]
    ) -> None:
        """Begins the load, or begins it again. Each shard still needs this many `indexes`, and has its `shard_rows`."""
        self.started_s, self.ended_s = now_s if self.started_s is None else self.started_s, None
        self.rows_read = self.rows_done = self.rows
        self.rowids_read, self.rowids_done, self.windows_in_flight = 0, 0.0, 0
        self.rowids_todo = rowids_todo
        self._expected_rows = None if expected_rows is None else expected_rows - sum(shard_rows.values())
        self._load_share = _LOAD_S / (_LOAD_S + indexes * _INDEX_S) if rowids_todo else 0.0
        self.shard_rows = dict(shard_rows)
        self.shard_write_s = dict.fromkeys(shard_rows, 0.0)
        self.phase = LOAD if rowids_todo else INDEX

    def begin_verification(self, *, now_s: float, rows: int) -> None:
        """Begins a verification of that many rows."""
        self.started_s, self._expected_rows, self.phase = now_s, rows, VERIFY

    def compared(self, rows: int) -> None:
        """Counts rows that a verification has compared."""
        self.rows_read += rows
        self.rows_done += rows

    def read(self, rows: int, rowids: int, size: int) -> None:
        """Counts a window that has been read, by the rows that are to be written."""
        self.rows_read += rows
        self.rowids_read += rowids
        self.bytes += size

    def wrote(self, shard: int, *, rows: int, rowids: float, ms: float) -> None:
        """Counts what one shard has committed."""
        self.rows_done += rows
        self.rowids_done += rowids
        self.shard_rows[shard] = self.shard_rows.get(shard, 0) + rows
        self.shard_write_s[shard] = self.shard_write_s.get(shard, 0.0) + ms / 1000

    def window(self, entry: Entry, *, rows: int) -> None:
        """Counts a window that every shard has committed, and of which this run has written so many rows."""
        self.rows += rows
        self.windows += 1
        self.last_rowid = max(self.last_rowid or entry.window.last_rowid, entry.window.last_rowid)
        for stage, ms in (("read", entry.read_ms), ("route", entry.route_ms), ("write", entry.write_ms)):
            self.seconds[stage] = self.seconds.get(stage, 0.0) + (ms or 0.0) / 1000

    @property
    def slowest_shard(self) -> int | None:
        """The shard with the longest time of writing."""
        return max(self.shard_write_s, key=self.shard_write_s.__getitem__) if any(self.shard_write_s.values()) else None

    @property
    def fraction(self) -> float:
        """How much is done, load and indexes together: from 0 to 1, never decreasing.

        Rows count where their number is known (TOTAL_ROWS, a verification), else rowids; what is read and not yet
        committed is half done.
        """
        if self._expected_rows is not None and self._expected_rows > 0:
            done, total = (self.rows_read + self.rows_done) / 2, self._expected_rows
        else:
            done, total = (self.rowids_read + self.rowids_done) / 2, self.rowids_todo
        match self.phase:
            case "prepare":
                return 0.0
            case "load" | "verify":
                return self._load_share * min(1.0, done / max(1, total))
            case "index":
                return self._load_share + (1 - self._load_share) * self.indexed / max(1, len(self.shard_rows))
            case _:
                return 1.0

    @property
    def percent(self) -> float:
        """The fraction in percent, to a tenth, rounded down: only what is done is at 100."""
        return math.floor(self.fraction * 1000) / 10

    def elapsed_s(self, now_s: float) -> float:
        """Since the load or the verification began; a load ends with its indexes."""
        end_s = now_s if self.ended_s is None else self.ended_s
        return 0.0 if self.started_s is None else end_s - self.started_s

    def rows_per_s(self, now_s: float) -> float:
        """Rows over the time elapsed; what is read and not yet committed is half done, as in the fraction."""
        return (self.rows_read + self.rows_done) / 2 / max(1e-9, self.elapsed_s(now_s))

    def eta_s(self, now_s: float) -> float | None:
        """Seconds to the end at the rate so far; None while nothing is done."""
        fraction = self.fraction
        return self.elapsed_s(now_s) * (1 - fraction) / fraction if fraction else None

    def figures(self, now_s: float) -> Figures:
        """The progress now, rounded."""
        eta_s = self.eta_s(now_s)
        return Figures(
            phase=self.phase,
            fraction=round(self.fraction, 4),
            rows=self.rows_done,
            rows_read=self.rows_read,
            rows_updated=self.rows_updated,
            windows=self.windows,
            bytes=self.bytes,
            rows_per_s=round(self.rows_per_s(now_s), 1),
            eta_s=None if eta_s is None else round(eta_s, 1),
            rowids_todo=self.rowids_todo,
            rowids_done=round(self.rowids_done),
            rowids_read=self.rowids_read,
            last_rowid=self.last_rowid,
            windows_in_flight=self.windows_in_flight,
            slowest_shard=self.slowest_shard,
            seconds={stage: round(seconds, 3) for stage, seconds in dict(self.seconds).items()},
        )
