"""The part of source and shards that a verification compares."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from etl.core import ranges
from etl.core.errors import Refused
from etl.core.model import MAX_ROWID, MIN_ROWID, RowidRange, ShardMap
from etl.verify.blocks import Blocks


@dataclass(frozen=True, slots=True)
class Scope:
    """By default everything."""

    quick: bool = False
    """quick_check instead of integrity_check."""
    shards: frozenset[int] | None = None
    """Only these shards, by number."""
    since: int | None = None
    """Only windows that reach to this rowid or beyond."""
    percent: float | None = None
    """Only this percentage of the windows, chosen at random."""
    files: bool = True
    """Check the files, too, if every rowid is compared."""
    budget_s: float | None = None
    """Only for so many seconds."""

    @property
    def is_everything(self) -> bool:
        """Whether every rowid is compared."""
        return self.since is None and self.percent is None

    @property
    def checks_files(self) -> bool:
        """Whether files are checked: a check always reads the whole file, so only where every rowid is compared."""
        return self.files and self.is_everything and self.budget_s is None

    def slots(self, shard_map: ShardMap) -> list[int]:
        """The slots to compare. Raises Refused for a number that no shard has."""
        numbers = shard_map.shards
        unknown = sorted((self.shards or frozenset()) - set(numbers))
        if unknown:
            reserved = f", {shard_map.reserved_shard}" if shard_map.reserved_shard >= shard_map.num_shards else ""
            listed = f"0..{shard_map.num_shards - 1}{reserved}"
            raise Refused(f"--shard {unknown[0]}: expected one of {listed}; see NUM_SHARDS and RESERVED_SHARD")
        return [slot for slot, number in enumerate(numbers) if self.shards is None or number in self.shards]

    def holds(self, window: RowidRange) -> bool:
        """Whether the window is in the scope; always False for a sample, which only `windows` chooses."""
        return self.percent is None and (self.since is None or window.last_rowid >= self.since)

    def windows(self, windows: Sequence[RowidRange], *, rows: int, row_bytes: float) -> list[RowidRange]:
        """The windows to compare, out of all windows; `rows` is their rows' number, `row_bytes` the mean size."""
        if self.percent is None or not windows:
            return [window for window in windows if self.holds(window)]
        # Groups as long as a block, so that a sample of small windows is still compared in few, large queries.
        recent = [window for window in windows if self.since is None or window.last_rowid >= self.since]
        blocks = ranges.groups(recent, Blocks(recent, rows=rows, row_bytes=row_bytes).windows_per_block)
        wanted = min(len(blocks), max(1, math.ceil(len(blocks) * self.percent / 100)))
        chosen = secrets.SystemRandom().sample(blocks, wanted)
        return sorted(window for block in chosen for window in block)

    def outside(self, windows: Sequence[RowidRange]) -> ranges.Coverage:
        """The rowids outside every window, where a shard should have no row; none for a sample."""
        if self.percent is not None:
            return ()
        first = MIN_ROWID if self.since is None else self.since
        return ranges.subtract((RowidRange(first, MAX_ROWID),), ranges.union(windows))
