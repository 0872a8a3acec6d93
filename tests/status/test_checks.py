"""Checks of rowids: the newest comparison of each rowid counts, and a lost file loses only knowledge."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core import ranges
from etl.core.model import RowidRange
from etl.status.checks import NEVER, Checks

MOST = 60
pieces = st.tuples(st.integers(1, MOST), st.integers(0, 20)).map(lambda pair: RowidRange(pair[0], sum(pair)))
records = st.lists(st.tuples(st.lists(pieces, min_size=1, max_size=3).map(ranges.union), st.booleans()), max_size=12)


@given(records=records, window=pieces)
def test_each_rowid_has_its_newest_check(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[ranges.Coverage, bool]],
    window: RowidRange,
) -> None:
    directory = tmp_path_factory.mktemp("checks")
    newest: dict[int, tuple[str, bool]] = {}
    checks = Checks(directory, "clients")
    for number, (rowids, equal) in enumerate(records):
        checks.record(rowids, f"{number:03d}", equal=equal, deleted=0)
        newest |= {
            rowid: (f"{number:03d}", equal) for each in rowids for rowid in range(each.first_rowid, each.last_rowid + 1)
        }
    read = Checks(directory, "clients")
    inside = range(window.first_rowid, window.last_rowid + 1)
    assert read.oldest(window) == min(newest.get(rowid, (NEVER, False))[0] for rowid in inside)
    share, oldest = read.proved((window,))
    equal_rowids = [rowid for rowid in inside if newest.get(rowid, ("", False))[1]]
    assert share == pytest.approx(len(equal_rowids) / window.span)
    assert oldest == min((newest[rowid][0] for rowid in equal_rowids), default=None)


def test_deleted_rows_are_counted_until_their_range_is_compared_again(tmp_path: Path) -> None:
    checks = Checks(tmp_path, "clients")
    checks.record((RowidRange(1, 100), RowidRange(201, 300)), "1", equal=True, deleted=7)
    checks.record((RowidRange(101, 200),), "2", equal=True, deleted=5)
    assert checks.deleted_outside(()) == 12
    assert checks.deleted_outside((RowidRange(101, 200),)) == 7
    checks.record((RowidRange(1, 50),), "3", equal=True, deleted=0)
    assert checks.deleted_outside((RowidRange(101, 200),)) == 7, "a part of a range keeps them all"
    checks.record((RowidRange(1, 100), RowidRange(201, 300)), "4", equal=True, deleted=None)
    assert checks.deleted_outside(()) == 12, "a verification deletes nothing, and forgets nothing"
    checks.record((RowidRange(1, 100), RowidRange(201, 300)), "5", equal=True, deleted=0)
    assert checks.deleted_outside(()) == 5
    checks.forget_deleted()
    assert Checks(tmp_path, "clients").deleted_outside(()) == 0


@pytest.mark.parametrize("content", ["", "noise", "[]", '{"checks": [{"first_rowid": 1}]}', '{"checks": 7}', "null"])
def test_a_file_that_cannot_be_read_has_no_checks(tmp_path: Path, content: str) -> None:
    Checks(tmp_path, "clients").record((RowidRange(1, 9),), "1", equal=True, deleted=0)
    (tmp_path / "clients_checks.json").write_text(content)
    checks = Checks(tmp_path, "clients")
    assert checks.oldest(RowidRange(1, 9)) == NEVER
    checks.record((RowidRange(1, 9),), "1", equal=True, deleted=0)
    assert Checks(tmp_path, "clients").oldest(RowidRange(1, 9)) == "1"
