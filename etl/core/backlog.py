"""What is left to load, worked out from what every shard has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from etl.core.model import RowidRange
from etl.core.ranges import Coverage, split_at_zero, subtract, union


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a run has to do: discard partial windows, fill lost shards, then load what no shard has."""

    partial: tuple[RowidRange, ...]
    """Windows that only some shards have, from a run that was killed. The source may have changed: discard them."""
    lost: Mapping[RowidRange, frozenset[int]]
    """Windows that were complete before a shard's file was lost: window → the slots without it. Ascending."""
    fresh: Coverage
    """Ranges to load into every shard. None crosses from −1 to 0, so that a rowid outside it always exists."""

    @property
    def is_nothing(self) -> bool:
        """Whether every shard has every window, and the source has no rowid outside them."""
        return not self.partial and not self.lost and not self.fresh

    @property
    def span(self) -> int:
        """How many rowids there are to load: an upper bound of the rows."""
        return sum(piece.span for piece in (*self.lost, *self.fresh))


def left_to_load(
    source: RowidRange | None,
    done: Coverage,
    *,
    partial: Iterable[RowidRange] = (),
    lost: Mapping[RowidRange, frozenset[int]] | None = None,
) -> Backlog:
    """What is left of `source` (None if it has no rows), where `done` is what every shard has."""
    lost = lost or {}
    fresh = subtract((source,), union([*done, *lost])) if source else ()
    return Backlog(tuple(partial), lost, split_at_zero(fresh))


def adjoining_windows(
    lost: Mapping[RowidRange, frozenset[int]], span: int
) -> list[tuple[tuple[RowidRange, ...], frozenset[int]]]:
    """The windows of `Backlog.lost` in groups that adjoin and go to the same slots, up to `span` rowids each.

    No group crosses from −1 to 0.
    """
    groups: list[tuple[list[RowidRange], frozenset[int]]] = []
    for window, slots in lost.items():
        if groups:
            before, slots_before = groups[-1]
            adjoins = before[-1].last_rowid + 1 == window.first_rowid != 0
            if adjoins and slots_before == slots and window.last_rowid - before[0].first_rowid < span:
                before.append(window)
                continue
        groups.append(([window], slots))
    return [(tuple(windows), slots) for windows, slots in groups]
