"""In what pieces a shard is read, and how often it may be asked: no rowid twice, none left out, no storm of calls."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core.model import MAX_ROWID, MIN_ROWID, LedgerLine, RowidRange
from etl.query.splits import Stride, cut
from etl.sqlite import rate_limit
from etl.sqlite.file_lock import FileLock


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


def test_a_look_and_a_read_never_meet() -> None:
    lock, together, met = FileLock(), [0, 0], []

    def work(kind: int) -> None:
        for _ in range(200):
            with lock.exclusive() if kind else lock.shared():
                together[kind] += 1
                met.append((together[1] > 0 and together[0] > 0) or together[1] > 1)
                together[kind] -= 1

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number % 3 == 0) for number in range(6)]:
            done.result()
    assert len(met) == 1200
    assert not any(met)


def test_calls_beyond_the_limit_wait_for_the_oldest_to_be_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(rate_limit, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    limit = rate_limit.Throttle(calls=3, seconds=30)
    begun = []
    for _ in range(8):
        limit.wait()
        begun.append(clock[0])
        clock[0] += 1
    assert begun == [0, 1, 2, 30, 31, 32, 60, 61]
    assert waits == [27, 0, 0, 27, 0]
