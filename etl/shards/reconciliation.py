"""The manifest compared with the ledgers, from which it is derived, and corrected by them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl

from etl.core import ranges
from etl.core.model import LedgerLine, RowidRange, ShardMap
from etl.runtime import log
from etl.shards import ledger, ledger_arrays, manifest_schema
from etl.shards.checkpoint import Checkpoint, Each, one_by_one
from etl.shards.ledger_arrays import Ledger, Numbers
from etl.shards.manifest import Entry, Manifest
from etl.shards.shard import Shard


class ManifestCheck:
    """Compares the manifest's lines with the ledgers, one shard after the other."""

    def __init__(self, manifest: Manifest, windows: Sequence[RowidRange], shard_map: ShardMap) -> None:
        self._manifest = manifest
        self._windows = windows
        self._shards = shard_map.shards
        self._lines = manifest.entries()
        self._first = self._lines["first_rowid"].to_numpy()
        self._last = self._lines["last_rowid"].to_numpy()
        has_all = self._lines["rows_by_shard"].list.len() == len(self._shards)
        is_whole = (manifest_schema.intact(self._lines) & has_all).fill_null(value=False)
        self._is_wrong = self._aligned(~is_whole) != 0
        self._is_done = np.ones(len(windows), np.bool_)
        self._total = np.zeros(len(windows), np.int64)

    def add(self, slot: int, rows: Numbers) -> None:
        """Compares one shard's rows of each window, −1 where its ledger lacks the window."""
        in_line = self._lines["rows_by_shard"].list.get(slot, null_on_oob=True)
        is_shard = (in_line.struct.field("shard") == self._shards[slot]).fill_null(False)
        in_manifest = in_line.struct.field("rows").set(~is_shard, None)
        self._is_wrong |= (self._aligned(in_manifest) != rows) | (self._aligned(in_manifest.is_null()) != 0)
        self._is_done &= rows >= 0
        self._total += rows

    def wrong(self) -> list[int]:
        """The positions of windows that every ledger has, and that the manifest lacks or has in another form."""
        is_wrong = self._is_wrong | (self._aligned(self._lines["rows"]) != self._total)
        return [int(position) for position in np.flatnonzero(is_wrong & self._is_done)]

    def missing(self) -> list[int]:
        """The positions of windows that every ledger has and the manifest lacks."""
        return [int(position) for position in np.flatnonzero((self._aligned(self._lines["rows"]) < 0) & self._is_done)]

    @property
    def is_sound(self) -> bool:
        """Whether the manifest has each window of all ledgers once and no others, and all its files can be read."""
        return self._manifest.is_sound(self.done)

    @property
    def done(self) -> ranges.Coverage:
        """The windows that every ledger has."""
        return ranges.union(window for window, done in zip(self._windows, self._is_done, strict=True) if done)

    def _aligned(self, column: pl.Series) -> Numbers:
        """A column of the manifest's lines, summed by window; −1 where no lines make up the window."""
        return Ledger(self._first, self._last, column.cast(pl.Int64).fill_null(0).to_numpy()).rows_of(self._windows)


def rebuild(manifest: Manifest, shard_map: ShardMap, shards: Sequence[Shard], found: Checkpoint, each: Each) -> int:
    """Writes the manifest again from the ledgers; returns the number of its windows."""
    entries = _entries(shard_map, shards, each, done=found.done, right=())
    manifest.rebuild(entries)
    return len(entries)


def follow_ledgers(
    manifest: Manifest, shard_map: ShardMap, shards: Sequence[Shard], found: Checkpoint, each: Each
) -> None:
    """Corrects the manifest where its windows, or its sums by shard, show that it lags behind the ledgers.

    It lacks a killed run's last windows, or all where it was lost. Sums differ after rows were replaced.
    """
    if not manifest.is_sound(found.done) or manifest.is_of_an_older_version:
        right = ranges.union(window for window in manifest.windows() if ranges.covers(found.done, window))
        _correct(manifest, shard_map, shards, each, right=right, done=found.done)
    is_whole = found.done and not found.backlog.lost
    if is_whole and manifest.rows() != dict(zip(shard_map.shards, found.rows, strict=True)):
        rebuild(manifest, shard_map, shards, found, each)


def correct(manifest: Manifest, shard_map: ShardMap, shards: Sequence[Shard], windows: Sequence[RowidRange]) -> None:
    """Corrects the lines of these windows that differ from the ledgers. Every shard must have a readable file."""
    check = ManifestCheck(manifest, windows, shard_map)
    for slot, shard in enumerate(shards):
        with shard.opened() as connection:
            check.add(slot, ledger_arrays.read(connection).rows_of(windows))
    wrong = check.wrong()
    if wrong or not check.is_sound:
        right = ranges.subtract(check.done, ranges.union(windows[position] for position in wrong))
        _correct(manifest, shard_map, shards, one_by_one, right=right, done=check.done)


def _correct(
    manifest: Manifest,
    shard_map: ShardMap,
    shards: Sequence[Shard],
    each: Each,
    *,
    right: ranges.Coverage,
    done: ranges.Coverage,
) -> None:
    """Keeps the manifest's lines within `right`; the ledgers give the other windows of `done`."""
    entries = _entries(shard_map, shards, each, right=right, done=done)
    manifest.correct(right, entries)
    log.event("manifest", corrected_windows=len(entries))


def _entries(
    shard_map: ShardMap, shards: Sequence[Shard], each: Each, *, right: ranges.Coverage, done: ranges.Coverage
) -> list[Entry]:
    """The ledgers' windows within `done`, which every shard has, except those within `right`."""
    if not done:
        return []
    lines: list[list[LedgerLine]] = [[] for _ in shards]
    for slot, found in enumerate(each(lambda shard: shard.windows_outside(right), shards)):
        for line in found:
            if ranges.covers(done, line.window):
                lines[slot].append(line)
    entries = []
    for window in ranges.overlapping_merged(line.window for of_slot in lines for line in of_slot):
        by_slot = [ledger.within(window, of_slot) for of_slot in lines]
        last = max((line for of_slot in by_slot for line in of_slot), key=lambda line: line.committed_at)
        entries.append(
            Entry(
                run_id=last.run_id,
                window=window,
                rows_by_shard=[
                    (number, sum(line.rows for line in of_slot))
                    for number, of_slot in zip(shard_map.shards, by_slot, strict=True)
                ],
                committed_at=datetime.fromisoformat(last.committed_at),
            )
        )
    return entries
