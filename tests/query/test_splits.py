"""In what ranges a shard is read: no rowid twice, none left out."""

from collections import deque
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core.model import MAX_ROWID, MIN_ROWID, LedgerLine, RowidRange
from etl.query.splits import SplitMerger, split


def lines(rows: list[int]) -> list[LedgerLine]:
    return [LedgerLine(RowidRange(10 * i, 10 * i + 9), count, "run", "now") for i, count in enumerate(rows)]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 25))
def test_splits_cover_every_rowid_once_and_have_few_enough_rows(rows: list[int], max_rows: int) -> None:
    splits = list(split(lines(rows), max_rows))
    assert (splits[0].first_rowid, splits[-1].last_rowid) == (MIN_ROWID, MAX_ROWID)
    assert all(left.last_rowid + 1 == right.first_rowid for left, right in pairwise(splits))
    for rowids in splits:
        inside = [line.rows for line in lines(rows) if line.window in rowids]
        assert sum(inside) <= max_rows or sum(count > 0 for count in inside) == 1
    assert len(splits) <= 1 + sum(rows)


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=60), st.lists(st.booleans()))
def test_a_merger_takes_every_split_once_and_merges_only_adjacent_ones(
    spans: list[tuple[int, bool]], few: list[bool]
) -> None:
    splits, first = [], 0
    for span, gap in spans:
        splits.append(RowidRange(first, first + span - 1))
        first += span + gap
    merger, left, taken = SplitMerger(few_rows=5), deque(splits), []
    answers = iter(few)
    while left:
        taken.append(merger.take(left))
        merger.adapt(pl.DataFrame({"c0": range(2 if next(answers, True) else 9)}))
    assert rowids_of(taken) == rowids_of(splits)


def rowids_of(splits: list[RowidRange]) -> list[int]:
    return [rowid for each in splits for rowid in range(each.first_rowid, each.last_rowid + 1)]


@pytest.mark.parametrize(("few_rows", "reads"), [(0, 100), (5, 4 + 6)], ids=["nothing filtered", "filtered"])
def test_reads_with_few_rows_merge_more_splits(few_rows: int, reads: int) -> None:
    left = deque(RowidRange(rowid, rowid) for rowid in range(100))
    merger, count = SplitMerger(few_rows=few_rows), 0
    while left:
        merger.take(left)
        merger.adapt(pl.DataFrame())
        count += 1
    assert count == reads
