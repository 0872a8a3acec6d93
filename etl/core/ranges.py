"""Arithmetic on closed ranges of rowids.

A *coverage* is a sorted tuple of disjoint ranges, adjacent ones merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from etl.core.model import MAX_ROWID, MIN_ROWID, RowidRange

Coverage = tuple[RowidRange, ...]


def union(ranges: Iterable[RowidRange]) -> Coverage:
    """The rowids in any of the ranges, which may come in any order."""
    merged: list[RowidRange] = []
    for piece in sorted(ranges):
        if merged and piece.first_rowid <= merged[-1].last_rowid + 1:
            merged[-1] = RowidRange(merged[-1].first_rowid, max(merged[-1].last_rowid, piece.last_rowid))
        else:
            merged.append(piece)
    return tuple(merged)


def overlapping_merged(ranges: Iterable[RowidRange]) -> tuple[RowidRange, ...]:
    """The ranges, those that overlap merged; adjacent ones stay apart. Ascending."""
    merged: list[RowidRange] = []
    for piece in sorted(ranges):
        if merged and piece.first_rowid <= merged[-1].last_rowid:
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
    """The rowids in every coverage."""
    shared: Coverage = coverages[0] if coverages else ()
    for coverage in set(coverages[1:]):
        shared = intersect(shared, coverage)
    return shared


def covers(coverage: Coverage, window: RowidRange) -> bool:
    """Whether the whole window is in the coverage."""
    return any(window in piece for piece in coverage)


def split_at_zero(coverage: Coverage) -> Coverage:
    """The same rowids, in ranges that do not cross from −1 to 0."""
    negative, rest = RowidRange(MIN_ROWID, -1), RowidRange(0, MAX_ROWID)
    return tuple(piece for half in (negative, rest) for piece in intersect(coverage, (half,)))


def cut_evenly(whole: RowidRange, rows: int) -> tuple[RowidRange, ...]:
    """The range cut every `rows` rowids, so that no piece has more than `rows` rows."""
    return tuple(
        RowidRange(first, min(first + rows - 1, whole.last_rowid))
        for first in range(whole.first_rowid, whole.last_rowid + 1, rows)
    )


def halves(whole: RowidRange) -> tuple[RowidRange, ...]:
    """The range in two; a range of one rowid is not cut."""
    if whole.span == 1:
        return (whole,)
    middle = whole.first_rowid + whole.span // 2
    return RowidRange(whole.first_rowid, middle - 1), RowidRange(middle, whole.last_rowid)


def groups(pieces: Sequence[RowidRange], size: int) -> list[tuple[RowidRange, ...]]:
    """The pieces in order, `size` to a group; the last group may be smaller."""
    return [tuple(pieces[start : start + size]) for start in range(0, len(pieces), size)]


def cut_by_size(
    whole: RowidRange,
    rowids: npt.NDArray[np.int64],
    row_bytes: npt.NDArray[np.int64],
    *,
    most_rows: int,
    most_bytes: int,
) -> list[RowidRange]:
    """The range in pieces of at most `most_rows` rows and `most_bytes` bytes, but of at least one row each.

    `rowids` (ascending) and `row_bytes` are those of all rows in the range, both of shape (rows,).
    """
    bytes_up_to = np.cumsum(row_bytes)
    pieces: list[RowidRange] = []
    start, first = 0, whole.first_rowid
    while start < len(rowids):
        before = int(bytes_up_to[start - 1]) if start else 0
        fitting = int(np.searchsorted(bytes_up_to, before + most_bytes, side="right"))
        stop = min(max(fitting, start + 1), start + most_rows, len(rowids))
        last = whole.last_rowid if stop == len(rowids) else int(rowids[stop - 1])
        pieces.append(RowidRange(first, last))
        start, first = stop, last + 1
    return pieces or [whole]
