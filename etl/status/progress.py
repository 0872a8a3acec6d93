"""The counts of a run as it goes on: what is done, how fast, how much is left. Arithmetic; the clock is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from etl.core.model import Table
from etl.shards.manifest import Entry

LOOK, LOAD, INDEX, DONE = "look", "load", "index", "done"
"""The phases of a run, in their order."""

_LOAD_S = 2.0
_INDEX_S = 0.25
"""Seconds that a million rows take to load, and to get one index: measured (README). Only their ratio matters."""


class Progress:
    """One run's counts. One thread adds to them; others may read them at any moment."""

    def __init__(self) -> None:
        self.phase = LOOK
        self.table: Table | None = None
        self.last_rowid: int | None = None
        """Every row up to here is in the shards, as far as windows were loaded in their order."""
        self.rows_read = 0
        self.rows_written = 0
        """Rows that are committed, each in its shard."""
        self.rows = 0
        """Rows of the windows that every shard now has."""
        self.windows = 0
        self.bytes = 0
        self.in_flight = 0
        """Windows that have been read and that some shard has yet to commit."""
        self.rowids_todo = 0
        self.rowids_read = 0
        self.rowids_written = 0.0
        """A window that so many of its shards have committed counts by their share."""
        self.paths: Mapping[int, Path] = {}
        """Each shard's file."""
        self.shard_rows: dict[int, int] = {}
        self.shard_write_s: dict[int, float] = {}
        self.indexed = 0
        """Shards that serve."""
        self.warnings: list[str] = []
        """What the operator should know although the run goes on."""
        self.seconds: dict[str, float] = {}
        """By stage: read, route and write are summed over threads; load and index are the time that passed."""
        self.started_s = 0.0
        self._expected_rows: int | None = None
        self._load_share = 1.0

    def begin(
        self, *, now_s: float, rowids_todo: int, expected_rows: int | None, indexes: int, shard_rows: Mapping[int, int]
    ) -> None:
        """Begins the load. `indexes` is how many each shard has yet to get; `shard_rows` what is there already."""
        self.started_s = now_s
        self.rowids_todo = rowids_todo
        self._expected_rows = None if expected_rows is None else expected_rows - sum(shard_rows.values())
        self._load_share = _LOAD_S / (_LOAD_S + indexes * _INDEX_S) if rowids_todo else 0.0
        self.shard_rows = dict(shard_rows)
        self.shard_write_s = dict.fromkeys(shard_rows, 0.0)
        self.phase = LOAD if rowids_todo else INDEX

    def read(self, rows: int, rowids: int, size: int) -> None:
        """Takes in a window that has been read."""
        self.rows_read += rows
        self.rowids_read += rowids
        self.bytes += size

    def wrote(self, shard: int, *, rows: int, rowids: float, ms: float) -> None:
        """Takes in what one shard has committed, and how long that took."""
        self.rows_written += rows
        self.rowids_written += rowids
        self.shard_rows[shard] = self.shard_rows.get(shard, 0) + rows
        self.shard_write_s[shard] = self.shard_write_s.get(shard, 0.0) + ms / 1000

    def window(self, entry: Entry) -> None:
        """Takes in a window that every shard has committed."""
        self.rows += sum(rows for _, rows in entry.rows_by_shard)
        self.windows += 1
        self.last_rowid = max(self.last_rowid or entry.window.last_rowid, entry.window.last_rowid)
        for stage, ms in (("read", entry.read_ms), ("route", entry.route_ms), ("write", entry.write_ms)):
            self.seconds[stage] = self.seconds.get(stage, 0.0) + (ms or 0.0) / 1000

    @property
    def slowest_shard(self) -> int | None:
        """The shard that has been written to for longest."""
        return max(self.shard_write_s, key=self.shard_write_s.__getitem__) if any(self.shard_write_s.values()) else None

    @property
    def fraction(self) -> float:
        """How much of the run is done, load and indexes together: from 0 to 1, and never less than it was.

        The load goes by rows where TOTAL_ROWS says how many to expect, else by rowids; what is read and not yet
        committed is half done.
        """
        if self._expected_rows is not None and self._expected_rows > 0:
            done, total = (self.rows_read + self.rows_written) / 2, self._expected_rows
        else:
            done, total = (self.rowids_read + self.rowids_written) / 2, self.rowids_todo
        match self.phase:
            case "look":
                return 0.0
            case "load":
                return self._load_share * min(1.0, done / max(1, total))
            case "index":
                return self._load_share + (1 - self._load_share) * self.indexed / max(1, len(self.shard_rows))
            case _:
                return 1.0

    @property
    def percent(self) -> float:
        """The fraction in percent, to a tenth, rounded down: 100 is said of what is done and of nothing else."""
        return math.floor(self.fraction * 1000) / 10

    def rows_per_s(self, now_s: float) -> float:
        """Committed rows over the time that the load has taken."""
        return self.rows_written / max(1e-9, self.seconds.get("load") or now_s - self.started_s)

    def eta_s(self, now_s: float) -> float | None:
        """Seconds to the end at the rate so far; None while nothing is done."""
        fraction = self.fraction
        return (now_s - self.started_s) * (1 - fraction) / fraction if fraction else None
