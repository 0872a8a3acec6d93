"""What a verification is bounded to."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from etl.core import ranges
from etl.core.errors import Refused
from etl.core.model import MAX_ROWID, MIN_ROWID, RowidRange, ShardMap
from etl.verify.blocks import Grid


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
    """Only so many windows of a hundred, drawn by lot."""
    only: frozenset[RowidRange] | None = None
    """Only these windows: those that were mended."""

    @property
    def is_everything(self) -> bool:
        """Whether every rowid is looked at. Only then are whole files checked, which costs the same for any bound."""
        return self.since is None and self.percent is None and self.only is None

    def slots(self, shard_map: ShardMap) -> list[int]:
        """The slots to look at. Raises Refused for a number that no shard has."""
        numbers = shard_map.shards
        unknown = sorted((self.shards or frozenset()) - set(numbers))
        if unknown:
            raise Refused(f"--shard {unknown[0]}: expected one of {numbers[0]}..{numbers[-1]}; see NUM_SHARDS")
        return [slot for slot, number in enumerate(numbers) if self.shards is None or number in self.shards]

    def holds(self, window: RowidRange) -> bool:
        """Whether the window is one to look at; a sample's are known only to `windows`."""
        is_recent = self.since is None or window.last_rowid >= self.since
        return is_recent and self.percent is None and (self.only is None or window in self.only)

    def windows(self, windows: Sequence[RowidRange], *, rows: int) -> list[RowidRange]:
        """Those of the windows, of so many rows in all, that are to be compared."""
        if self.percent is None or not windows:
            return [window for window in windows if self.holds(window)]
        # Stretches as long as a block, so that a sample of small windows is still read in few, large calls.
        recent = [window for window in windows if self.since is None or window.last_rowid >= self.since]
        stretches = ranges.groups(recent, Grid(recent, rows=rows, slots=1).windows_per_block)
        wanted = min(len(stretches), max(1, math.ceil(len(stretches) * self.percent / 100)))
        drawn = secrets.SystemRandom().sample(stretches, wanted)
        return sorted(window for stretch in drawn for window in stretch)

    def coverage(self, windows: Sequence[RowidRange], chosen: ranges.Coverage) -> ranges.Coverage:
        """The rowids to read in a shard: also those of no window, where there should be nothing."""
        if self.percent is not None:
            return chosen
        first = MIN_ROWID if self.since is None else self.since
        left_out = ranges.subtract(ranges.union(windows), chosen)
        return ranges.union([*chosen, *ranges.subtract((RowidRange(first, MAX_ROWID),), left_out)])
