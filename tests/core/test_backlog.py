"""What is left to load: the fresh ranges, and the windows of lost shards in groups."""

from hypothesis import given
from hypothesis import strategies as st

from etl.core import ranges
from etl.core.backlog import adjoining_windows, left_to_load
from etl.core.model import RowidRange
from tests.core.test_ranges import members, rowid_ranges


@given(data=st.data())
def test_the_backlog_is_what_some_shard_does_not_have(data: st.DataObject) -> None:
    """Windows are disjoint; some are done, lost shards had others, and the source may reach further both ways."""
    windows = data.draw(st.lists(rowid_ranges, max_size=6).map(disjoint), label="windows")
    lost = {window: data.draw(st.frozensets(st.integers(0, 3)), label="slots") for window in sorted(windows)}
    lost = {window: slots for window, slots in lost.items() if slots}
    done = ranges.union(window for window in windows if window not in lost)
    source = data.draw(st.none() | rowid_ranges, label="source")
    left = left_to_load(source, done, lost=lost)
    assert members(left.fresh) == (members([source]) if source else set()) - members([*done, *lost])
    assert not any(piece.first_rowid < 0 <= piece.last_rowid for piece in left.fresh)
    assert left.span == len(members(left.fresh)) + sum(window.span for window in lost)
    assert left.is_nothing == (not lost and not left.fresh)
    span = data.draw(st.integers(1, 10), label="span")
    gathered = adjoining_windows(left.lost, span)
    assert {window: numbers for group, numbers in gathered for window in group} == lost
    for group, _ in gathered:
        together = ranges.union(group)
        assert len(together) == 1
        assert len(group) == 1 or (together[0].span <= span and together == ranges.split_at_zero(together))


def disjoint(pieces: list[RowidRange]) -> list[RowidRange]:
    """The ranges that overlap none before them."""
    kept: list[RowidRange] = []
    for piece in pieces:
        if not members([piece]) & members(kept):
            kept.append(piece)
    return kept
