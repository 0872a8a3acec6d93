"""Progress: the fraction done never decreases and never exceeds one; rates, time left, a verification's progress."""

from collections.abc import Iterator
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from etl.core.model import RowidRange
from etl.shards.manifest import Entry
from etl.status.progress import DONE, INDEX, Progress

SHARDS = (0, 1, 2)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def begun(*, rowids: int, expected: int | None = None, indexes: int = 3, there: int = 0) -> Progress:
    progress = Progress()
    rows = dict.fromkeys(SHARDS, there)
    progress.begin_load(now_s=0.0, rowids_todo=rowids, expected_rows=expected, indexes=indexes, shard_rows=rows)
    return progress


def entry(first: int, rows: int, rowids: int) -> Entry:
    by_shard = [(0, rows), (1, 0), (2, 0)]
    return Entry(
        "run", RowidRange(first, first + rowids - 1), by_shard, MOMENT, read_ms=1.0, route_ms=2.0, write_ms=4.0
    )


def load(progress: Progress, windows: list[tuple[int, int]]) -> Iterator[float]:
    """Reads and commits windows of (rows, rowids); yields the percent after each step."""
    first = 1
    for rows, rowids in windows:
        progress.read(rows, rowids, 10)
        yield progress.percent
        for shard in SHARDS:
            progress.wrote(shard, rows=rows if shard == 0 else 0, rowids=rowids / len(SHARDS), ms=1.0)
            yield progress.percent
        progress.window(entry(first, rows, rowids), rows=rows)
        first += rowids
        yield progress.percent


windows = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 10**9)), max_size=20)


@given(windows, st.none() | st.integers(1, 10**12), st.integers(0, 5), st.integers(1, 10**10), st.integers(0, 10**6))
def test_the_percent_never_decreases_and_never_exceeds_100(
    cut: list[tuple[int, int]], expected: int | None, indexes: int, rowids: int, there: int
) -> None:
    progress = begun(rowids=rowids, expected=expected, indexes=indexes, there=there)
    seen = [progress.percent, *load(progress, cut)]
    progress.phase = INDEX
    for count in range(len(SHARDS) + 1):
        progress.indexed = count
        seen.append(progress.percent)
    progress.phase = DONE
    seen.append(progress.percent)
    assert seen == sorted(seen)
    assert seen[-1] == 100.0
    assert seen[0] == 0.0


def test_half_the_rowids_are_half_of_the_load() -> None:
    progress = begun(rowids=200, indexes=0)
    list(load(progress, [(10, 100)]))
    assert progress.percent == 50.0
    assert progress.eta_s(60.0) == 60.0


def test_total_rows_includes_the_rows_of_earlier_runs() -> None:
    progress = begun(rowids=10**9, expected=1_300, indexes=0, there=100)
    list(load(progress, [(500, 10)]))
    assert progress.percent == 50.0


def test_rows_that_are_read_and_not_committed_are_half_done() -> None:
    progress = begun(rowids=100, indexes=0)
    progress.read(50, 50, 10)
    assert progress.percent == 25.0


def test_the_indexes_have_their_share_of_the_percent() -> None:
    progress = begun(rowids=100, indexes=4)
    list(load(progress, [(100, 100)]))
    assert 60.0 < progress.percent < 70.0  # 2.0 s of load against 4 × 0.25 s of indexes


def test_rows_and_times_are_counted_by_shard() -> None:
    progress = begun(rowids=100)
    assert progress.slowest_shard is None
    progress.wrote(1, rows=5, rowids=1.0, ms=100.0)
    progress.wrote(2, rows=6, rowids=1.0, ms=300.0)
    assert progress.shard_rows == {0: 0, 1: 5, 2: 6}
    assert progress.slowest_shard == 2
    assert progress.rows_per_s(2.0) == 2.75, "what is not yet written counts half, and so does what was not read"


def test_the_time_left_is_unknown_while_nothing_is_done() -> None:
    assert begun(rowids=100).eta_s(5.0) is None


def test_a_verification_is_done_when_all_its_rows_are_compared() -> None:
    progress = Progress()
    progress.begin_verification(now_s=0.0, rows=1_000)
    progress.compared(500)
    assert (progress.percent, progress.rows_per_s(10.0), progress.eta_s(10.0)) == (50.0, 50.0, 10.0)
    progress.compared(500)
    assert progress.percent == 100.0
    assert progress.figures(20.0).rows == 1_000
