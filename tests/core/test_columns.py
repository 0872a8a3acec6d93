"""Column groups: each carried column in one group, and places of one read type."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core.columns import ReadTypes
from etl.core.model import ReadType

VARIANT = ReadType.VARIANT
SOME = ReadTypes((ReadType.TEXT, VARIANT, ReadType.REAL, VARIANT, VARIANT))
any_types = st.lists(st.sampled_from(ReadType), max_size=60).map(lambda types: ReadTypes(tuple(types)))


@given(any_types, st.integers(10, 40))
def test_each_column_comes_in_one_group_at_a_place_of_its_read_type(read_types: ReadTypes, most: int) -> None:
    groups = read_types.grouped(most)
    assert len(groups.names) == len(set(groups.names)) <= most
    found = [
        pair for group in groups.groups for pair in zip(group, groups.places.types, strict=True) if None not in pair
    ]
    assert Counter(found) == Counter(enumerate(read_types.types))


@given(any_types, st.integers(10, 40))
def test_each_frame_column_comes_from_the_result_column_of_its_kind(read_types: ReadTypes, most: int) -> None:
    groups = read_types.grouped(most)
    named = [groups.frame_names(number) for number in range(len(groups.groups))]
    wanted = [name for position in range(len(read_types.types)) for name in read_types.frame_columns(position)]
    assert Counter(name for names in named for name in names.values()) == Counter(wanted)
    for names in named:
        assert names.keys() <= set(groups.names)
        assert all(old.partition("_")[2] == new.partition("_")[2] for old, new in names.items())


@given(any_types, st.integers(10, 40))
def test_a_refused_result_column_leads_to_the_columns_that_it_has(read_types: ReadTypes, most: int) -> None:
    groups = read_types.grouped(most)
    for number, result_column in enumerate(groups.names):
        named = [groups.frame_names(group).get(result_column) for group in range(len(groups.groups))]
        wanted = [int(name.partition("_")[0][1:]) for name in named if name]
        assert groups.positions_of(number) == wanted
    assert groups.positions_of(-1) == groups.positions_of(len(groups.names)) == []


@pytest.mark.parametrize(("most", "groups"), [(15, 1), (14, 2), (12, 2), (11, 3)])
def test_there_are_as_few_groups_as_the_limit_allows(most: int, groups: int) -> None:
    assert SOME.width == 15
    assert len(SOME.grouped(most).groups) == groups


def test_a_table_with_nothing_but_its_rowid_has_one_group() -> None:
    assert ReadTypes(()).grouped(10).names == ("rowid",)


def test_a_widened_column_has_four_frame_columns() -> None:
    assert SOME.widened(0, 0).width == 18
    assert SOME.widened(0).frame_columns(0) == ("c0_tag", "c0_integer", "c0_real", "c0_bytes")
    assert SOME.frame_columns(2) == ("c2",)
