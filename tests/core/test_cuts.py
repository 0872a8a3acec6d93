"""Ranges cut into windows and partitions: evenly, in halves, by the bytes of rows, and into groups."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core import ranges
from etl.core.model import MAX_ROWID, MIN_ROWID, RowidRange

numbers = st.integers(-12, 12)
rowid_ranges = st.tuples(numbers, numbers).map(lambda ends: RowidRange(min(ends), max(ends)))

ALL = RowidRange(MIN_ROWID, MAX_ROWID)
NEGATIVE, REST, MOST = RowidRange(MIN_ROWID, -1), RowidRange(0, MAX_ROWID), RowidRange(MAX_ROWID, MAX_ROWID)


def tiles(pieces: Sequence[RowidRange], whole: RowidRange) -> bool:
    """Whether the pieces, in order, are exactly the whole."""
    following = whole.first_rowid
    for piece in pieces:
        if piece.first_rowid != following:
            return False
        following = piece.last_rowid + 1
    return following == whole.last_rowid + 1


@given(whole=rowid_ranges, rows=st.integers(1, 30))
def test_an_even_cut_covers_the_range_in_pieces_of_one_size(whole: RowidRange, rows: int) -> None:
    pieces = ranges.cut_evenly(whole, rows)
    assert tiles(pieces, whole)
    assert all(piece.span == rows for piece in pieces[:-1])
    assert 1 <= pieces[-1].span <= rows


@given(rowid_ranges)
def test_halves_cover_the_range_and_differ_by_one_at_most(whole: RowidRange) -> None:
    pieces = ranges.halves(whole)
    assert tiles(pieces, whole)
    spans = [piece.span for piece in pieces]
    assert len(spans) == min(2, whole.span)
    assert max(spans) - min(spans) <= 1


@given(count=st.integers(0, 20), size=st.integers(1, 8))
def test_groups_keep_the_pieces_in_order(count: int, size: int) -> None:
    pieces = [RowidRange(number, number) for number in range(count)]
    groups = ranges.groups(pieces, size)
    assert [piece for group in groups for piece in group] == pieces
    assert all(len(group) == size for group in groups[:-1])
    assert all(1 <= len(group) <= size for group in groups)


@given(
    whole=rowid_ranges | st.just(ALL),
    present=st.dictionaries(numbers | st.sampled_from([MIN_ROWID, MAX_ROWID]), st.integers(0, 10), max_size=20),
    most_rows=st.integers(1, 6),
    most_bytes=st.integers(1, 20),
)
def test_a_cut_by_size_keeps_to_its_bounds(
    *, whole: RowidRange, present: dict[int, int], most_rows: int, most_bytes: int
) -> None:
    rowids = sorted(rowid for rowid in present if RowidRange(rowid, rowid) in whole)
    pieces = ranges.cut_by_size(
        whole,
        np.array(rowids, np.int64),
        np.array([present[rowid] for rowid in rowids], np.int64),
        most_rows=most_rows,
        most_bytes=most_bytes,
    )
    assert tiles(pieces, whole)
    for piece in pieces:
        sizes = [present[rowid] for rowid in rowids if piece.first_rowid <= rowid <= piece.last_rowid]
        assert len(sizes) <= most_rows
        assert sum(sizes) <= most_bytes or len(sizes) == 1
        assert sizes or len(pieces) == 1
    if not rowids:
        assert pieces == [whole]


@pytest.mark.parametrize(
    ("sizes", "most_rows", "most_bytes", "rows"),
    [
        ([1, 1, 1, 1], 9, 4, [4]),
        ([1, 1, 1, 1], 2, 9, [2, 2]),
        ([1, 99, 1, 1], 9, 10, [1, 1, 2]),
        ([99, 98, 97], 9, 10, [1, 1, 1]),
        ([5, 5, 1, 5, 4], 9, 10, [2, 3]),
        ([0, 0, 99, 0], 9, 10, [2, 1, 1]),
        ([2**40, 2**40], 9, 2**20, [1, 1]),
    ],
)
def test_a_cut_by_size_wastes_no_room(sizes: list[int], most_rows: int, most_bytes: int, rows: list[int]) -> None:
    pieces = ranges.cut_by_size(
        RowidRange(1, len(sizes)),
        np.arange(1, len(sizes) + 1),
        np.array(sizes),
        most_rows=most_rows,
        most_bytes=most_bytes,
    )
    assert [piece.span for piece in pieces] == rows


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ranges.halves(ALL), (NEGATIVE, REST)),
        (ranges.halves(MOST), (MOST,)),
        (ranges.cut_evenly(ALL, 2**63), (NEGATIVE, REST)),
        (ranges.cut_evenly(RowidRange(MAX_ROWID - 2, MAX_ROWID), 2), (RowidRange(MAX_ROWID - 2, MAX_ROWID - 1), MOST)),
    ],
)
def test_the_ends_of_the_integers_are_cut_like_others(
    found: Sequence[RowidRange], expected: Sequence[RowidRange]
) -> None:
    assert found == expected
