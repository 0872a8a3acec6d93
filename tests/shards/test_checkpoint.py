"""Windows that only some shards have: left by a killed run, or lacked by a shard that was lost."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar, cast

import pytest

from etl.core import ranges
from etl.core.model import Index, LedgerLine, RowidRange
from etl.shards import checkpoint
from etl.shards.contents import ShardContents, ShardIndexes
from etl.shards.ledger import FirstRun
from etl.shards.shard import Shard

T = TypeVar("T")
R = TypeVar("R")
A, B = RowidRange(1, 10), RowidRange(11, 20)
SERVES = True

CASES: dict[
    str,
    tuple[
        Sequence[tuple[Mapping[RowidRange, int], bool]], Collection[RowidRange], Mapping[RowidRange, Collection[int]]
    ],
] = {
    "all shards have all": ([({A: 1}, SERVES), ({A: 1}, SERVES)], [], {}),
    "no shard has any": ([({}, False), ({}, False)], [], {}),
    "a first load was killed": ([({A: 1}, False), ({}, False)], [A], {}),
    "an increment was killed": ([({A: 1, B: 2}, SERVES), ({A: 1}, SERVES)], [B], {}),
    "an older copy of a shard": ([({A: 1, B: 1}, SERVES), ({A: 1}, SERVES)], [B], {}),
    "a shard was lost": ([({A: 1}, SERVES), ({}, False)], [], {A: {1}}),
    "two shards were lost": ([({}, False), ({A: 1}, SERVES), ({}, False)], [], {A: {0, 2}}),
    "its rebuild was killed": ([({A: 1, B: 1}, SERVES), ({A: 2}, False)], [], {B: {1}}),
    "new rows came, too": ([({A: 1, B: 2}, SERVES), ({A: 2}, False)], [B], {}),
    "a third shard lacks the window": ([({A: 1, B: 1}, SERVES), ({A: 1}, SERVES), ({A: 2}, False)], [B], {}),
}
"""Each shard's windows with the run that committed them, and whether it serves; what is partial; what is lost."""


class ShardWithLedger:
    """A shard whose ledger is given."""

    def __init__(self, runs: Mapping[RowidRange, int], *, serves: bool) -> None:
        self._lines = [
            LedgerLine(window, 1, f"2026111{run}T000000.000000Z-7", f"2026-11-1{run}T00:00:09+00:00")
            for window, run in sorted(runs.items())
        ]
        self._serves = serves

    def find(self, _: Sequence[Index]) -> ShardContents | None:
        first = min((line.run_id for line in self._lines), default=None)
        coverage = ranges.union(line.window for line in self._lines)
        if first is None:
            return None
        return ShardContents(coverage, len(self._lines), ShardIndexes(), self._serves, FirstRun(first))

    def windows_outside(self, coverage: ranges.Coverage) -> list[LedgerLine]:
        return [line for line in self._lines if not ranges.covers(coverage, line.window)]


def each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    return [work(item) for item in items]


@pytest.mark.parametrize(("ledgers", "partial", "lost"), CASES.values(), ids=CASES.keys())
def test_a_window_is_discarded_unless_only_lost_shards_lack_it(
    ledgers: Sequence[tuple[Mapping[RowidRange, int], bool]],
    partial: Collection[RowidRange],
    lost: Mapping[RowidRange, Collection[int]],
) -> None:
    shards = cast("list[Shard]", [ShardWithLedger(runs, serves=serves) for runs, serves in ledgers])
    found = checkpoint.take(shards, RowidRange(1, 30), (), each)
    assert list(found.backlog.partial) == list(partial)
    assert found.backlog.lost == lost
    everywhere = {window for runs, _ in ledgers for window in runs}
    left_alone = ranges.union(window for window in everywhere if window not in partial)
    assert found.backlog.fresh == ranges.subtract((RowidRange(1, 30),), left_alone)
