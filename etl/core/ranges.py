"""Which rowids are still to do, and how they are cut: arithmetic on closed ranges, no I/O.

A *coverage* is a sorted tuple of disjoint ranges, adjacent ones merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etl.core.model import RowidRange

Coverage = tuple[RowidRange, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a run has to do: discard partial windows, fill lost shards, then load what no shard has."""

    partial: tuple[RowidRange, ...]
    """Windows that a killed run committed in some shards only. The source may have changed: they are discarded."""
    lost: Mapping[RowidRange, frozenset[int]]
    """Windows that were complete before a shard's file was lost: window → the slots that lack it. Ascending."""
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


def backlog(
    source: RowidRange | None,
    done: Coverage,
    *,
    partial: Iterable[RowidRange] = (),
    lost: Mapping[RowidRange, frozenset[int]] | None = None,
) -> Backlog:
    """What is left of `source` (None when it has no rows) where `done` is what every shard has."""
    lost = lost or {}
    fresh = subtract((source,), union([*done, *lost])) if source else ()
    return Backlog(tuple(partial), lost, split_at_zero(fresh))


def union(ranges: Iterable[RowidRange]) -> Coverage:
    """The rowids in any of the ranges, in whatever order they come."""
    merged: list[RowidRange] = []
    for piece in sorted(ranges):
        if merged and piece.first_rowid <= merged[-1].last_rowid + 1:
            merged[-1] = RowidRange(merged[-1].first_rowid, max(merged[-1].last_rowid, piece.last_rowid))
        else:
            merged.append(piece)
    return tuple(merged)


def subtract(whole: Coverage, holes: Coverage) -> Coverage:
    """The rowids of `whole` that are in none of `holes`."""
    rest: list[RowidRange] = []
    for piece in whole:
        first = piece.first_rowid
        for hole in holes:
            if hole.last_rowid < first or hole.first_rowid > piece.last_rowid:
                continue
            if hole.first_rowid > first:
                rest.append(RowidRange(first, hole.first_rowid - 1))
            first = hole.last_rowid + 1
        if first <= piece.last_rowid:
            rest.append(RowidRange(first, piece.last_rowid))
    return tuple(rest)


def intersect(left: Coverage, right: Coverage) -> Coverage:
    """The rowids in both."""
    return subtract(left, subtract(left, right))


def common(coverages: Sequence[Coverage]) -> Coverage:
    """The rowids in every coverage: the windows that are done."""
    shared: Coverage = coverages[0] if coverages else ()
    for coverage in set(coverages[1:]):
        shared = intersect(shared, coverage)
    return shared


def covers(coverage: Coverage, window: RowidRange) -> bool:
    """Whether the coverage holds the whole window."""
    return any(window in piece for piece in coverage)


def split_at_zero(coverage: Coverage) -> Coverage:
    """The same rowids, in ranges that are all negative or all not."""
    negative, rest = RowidRange(-(2**63), -1), RowidRange(0, 2**63 - 1)
    return tuple(piece for half in (negative, rest) for piece in intersect(coverage, (half,)))


def cut_evenly(whole: RowidRange, rows: int) -> tuple[RowidRange, ...]:
    """The range cut every `rows` rowids: at most `rows` rows in each, however sparse it is."""
    return tuple(
        RowidRange(first, min(first + rows - 1, whole.last_rowid))
        for first in range(whole.first_rowid, whole.last_rowid + 1, rows)
    )


def halves(whole: RowidRange) -> tuple[RowidRange, ...]:
    """The range in two; one rowid stays one."""
    if whole.span == 1:
        return (whole,)
    middle = whole.first_rowid + whole.span // 2
    return RowidRange(whole.first_rowid, middle - 1), RowidRange(middle, whole.last_rowid)


def groups(pieces: Sequence[RowidRange], size: int) -> list[tuple[RowidRange, ...]]:
    """The pieces in order, `size` to a group; the last group may be smaller."""
    return [tuple(pieces[start : start + size]) for start in range(0, len(pieces), size)]


def neighbours(
    lost: Mapping[RowidRange, frozenset[int]], span: int
) -> list[tuple[tuple[RowidRange, ...], frozenset[int]]]:
    """Ascending windows gathered where they adjoin and the same slots lack them, up to `span` rowids together.

    None of the gathered crosses from −1 to 0.
    """
    gathered: list[tuple[list[RowidRange], frozenset[int]]] = []
    for window, slots in lost.items():
        if gathered:
            before, lacking = gathered[-1]
            adjoins = before[-1].last_rowid + 1 == window.first_rowid != 0
            if adjoins and lacking == slots and window.last_rowid - before[0].first_rowid < span:
                before.append(window)
                continue
        gathered.append(([window], slots))
    return [(tuple(windows), slots) for windows, slots in gathered]


def cut_by_weight(
    whole: RowidRange,
    rowids: npt.NDArray[np.int64],
    row_bytes: npt.NDArray[np.int64],
    *,
    most_rows: int,
    most_bytes: int,
) -> list[RowidRange]:
    """The range cut so that each piece has at most `most_rows` rows and `most_bytes` of them, but at least one row.

    `rowids` (ascending) and `row_bytes` are those of all rows in the range, both of shape (rows,).
    """
    weight = np.cumsum(row_bytes)
    pieces: list[RowidRange] = []
    start, first = 0, whole.first_rowid
    while start < len(rowids):
        before = int(weight[start - 1]) if start else 0
        fitting = int(np.searchsorted(weight, before + most_bytes, side="right"))
        stop = min(max(fitting, start + 1), start + most_rows, len(rowids))
        last = whole.last_rowid if stop == len(rowids) else int(rowids[stop - 1])
        pieces.append(RowidRange(first, last))
        start, first = stop, last + 1
    return pieces or [whole]
