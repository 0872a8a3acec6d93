"""In what pieces a shard is read: no rowid twice, none left out."""

from collections import deque
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core.model import MAX_ROWID, MIN_ROWID, LedgerLine, RowidRange
from etl.query.splits import Stride, cut


def lines(rows: list[int]) -> list[LedgerLine]:
    return [LedgerLine(RowidRange(10 * i, 10 * i + 9), count, "run", "now") for i, count in enumerate(rows)]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 25))
def test_the_cuts_hold_every_rowid_once_and_few_enough_rows(rows: list[int], most_rows: int) -> None:
    cuts = list(cut(lines(rows), most_rows))
    assert (cuts[0].first_rowid, cuts[-1].last_rowid) == (MIN_ROWID, MAX_ROWID)
    assert all(left.last_rowid + 1 == right.first_rowid for left, right in pairwise(cuts))
    for piece in cuts:
        inside = [line.rows for line in lines(rows) if line.window in piece]
        assert sum(inside) <= most_rows or sum(count > 0 for count in inside) == 1
    assert len(cuts) <= 1 + sum(rows)


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=60), st.lists(st.booleans()))
def test_a_stride_takes_every_cut_once_and_joins_neighbours_only(
    spans: list[tuple[int, bool]], few: list[bool]
) -> None:
    cuts, first = [], 0
    for span, gap in spans:
        cuts.append(RowidRange(first, first + span - 1))
        first += span + gap
    stride, left, taken = Stride(few_rows=5), deque(cuts), []
    answers = iter(few)
    while left:
        taken.append(stride.take(left))
        stride.seen(pl.DataFrame({"c0": range(2 if next(answers, True) else 9)}))
    held = [rowid for piece in taken for rowid in range(piece.first_rowid, piece.last_rowid + 1)]
    assert held == [rowid for piece in cuts for rowid in range(piece.first_rowid, piece.last_rowid + 1)]


@pytest.mark.parametrize(("few_rows", "reads"), [(0, 100), (5, 4 + 6)], ids=["nothing filtered", "filtered"])
def test_reads_that_bring_little_become_few(few_rows: int, reads: int) -> None:
    left = deque(RowidRange(rowid, rowid) for rowid in range(100))
    stride, count = Stride(few_rows=few_rows), 0
    while left:
        stride.take(left)
        stride.seen(pl.DataFrame())
        count += 1
    assert count == reads
