"""The arithmetic of closed ranges, against sets of integers, and at the ends of SQLite's integers."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core import ranges
from etl.core.model import MAX_ROWID, MIN_ROWID, RowidRange
from etl.core.ranges import Coverage

numbers = st.integers(-12, 12)
rowid_ranges = st.tuples(numbers, numbers).map(lambda ends: RowidRange(min(ends), max(ends)))
some_ranges = st.lists(rowid_ranges, max_size=6)
coverages = some_ranges.map(ranges.union)

LEAST, MOST = RowidRange(MIN_ROWID, MIN_ROWID), RowidRange(MAX_ROWID, MAX_ROWID)
NEGATIVE, REST = RowidRange(MIN_ROWID, -1), RowidRange(0, MAX_ROWID)
ALL = RowidRange(MIN_ROWID, MAX_ROWID)
INNER = RowidRange(MIN_ROWID + 1, MAX_ROWID - 1)


def members(pieces: Iterable[RowidRange]) -> set[int]:
    return {number for piece in pieces for number in range(piece.first_rowid, piece.last_rowid + 1)}


def is_canonical(coverage: Coverage) -> bool:
    """Ascending, disjoint, adjacent rowid_ranges merged."""
    return all(left.last_rowid + 1 < right.first_rowid for left, right in pairwise(coverage))


@pytest.mark.parametrize("ends", [(1, 0), (MIN_ROWID - 1, 0), (0, MAX_ROWID + 1)])
def test_an_empty_range_cannot_be_made(ends: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a closed range"):
        RowidRange(*ends)


@given(left=rowid_ranges, right=rowid_ranges)
def test_a_range_holds_another(left: RowidRange, right: RowidRange) -> None:
    assert (right in left) == (members([right]) <= members([left]))
    assert left.span == len(members([left]))


@given(some_ranges)
def test_a_union_is_the_union(pieces: list[RowidRange]) -> None:
    assert members(ranges.union(pieces)) == members(pieces)
    assert is_canonical(ranges.union(pieces))


@given(whole=coverages, holes=coverages)
def test_a_difference_is_the_difference(whole: Coverage, holes: Coverage) -> None:
    assert members(ranges.subtract(whole, holes)) == members(whole) - members(holes)
    assert is_canonical(ranges.subtract(whole, holes))


@given(left=coverages, right=coverages)
def test_an_intersection_is_the_intersection(left: Coverage, right: Coverage) -> None:
    assert members(ranges.intersect(left, right)) == members(left) & members(right)
    assert is_canonical(ranges.intersect(left, right))


@given(st.lists(coverages, max_size=4))
def test_what_is_common_is_in_all(several: list[Coverage]) -> None:
    sets = [members(coverage) for coverage in several]
    assert members(ranges.common(several)) == (set.intersection(*sets) if sets else set())


@given(coverage=coverages, window=rowid_ranges)
def test_a_window_is_covered_when_all_of_it_is(coverage: Coverage, window: RowidRange) -> None:
    assert ranges.covers(coverage, window) == (members([window]) <= members(coverage))


@given(coverages)
def test_no_range_crosses_zero_after_a_split(coverage: Coverage) -> None:
    split = ranges.split_at_zero(coverage)
    assert members(split) == members(coverage)
    assert all(piece.last_rowid < 0 or piece.first_rowid >= 0 for piece in split)
    assert list(split) == sorted(split)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ranges.union([REST, NEGATIVE]), (ALL,)),
        (ranges.union([MOST, LEAST]), (LEAST, MOST)),
        (ranges.union([MOST, INNER, LEAST]), (ALL,)),
        (ranges.union([ALL, MOST]), (ALL,)),
        (ranges.subtract((ALL,), (ALL,)), ()),
        (ranges.subtract((ALL,), (INNER,)), (LEAST, MOST)),
        (ranges.subtract((ALL,), (LEAST, MOST)), (INNER,)),
        (ranges.subtract((MOST,), (LEAST,)), (MOST,)),
        (ranges.intersect((ALL,), (LEAST, MOST)), (LEAST, MOST)),
        (ranges.intersect((NEGATIVE,), (REST,)), ()),
        (ranges.common([(ALL,), (NEGATIVE,), (INNER,)]), (RowidRange(MIN_ROWID + 1, -1),)),
        (ranges.split_at_zero((ALL,)), (NEGATIVE, REST)),
        (ranges.split_at_zero((LEAST, MOST)), (LEAST, MOST)),
    ],
)
def test_the_ends_of_the_integers_are_numbers_like_others(found: Coverage, expected: Coverage) -> None:
    assert found == expected
