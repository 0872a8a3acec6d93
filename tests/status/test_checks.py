"""Checks of rowids: the newest comparison of each rowid counts, and a lost file loses only knowledge."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core import ranges
from etl.core.model import RowidRange
from etl.status.checks import NEVER, Checks

MOST = 60
pieces = st.tuples(st.integers(1, MOST), st.integers(0, 20)).map(lambda pair: RowidRange(pair[0], sum(pair)))
records = st.lists(st.tuples(st.lists(pieces, min_size=1, max_size=3).map(ranges.union), st.booleans()), max_size=12)


def at(number: int) -> str:
    return f"2026-01-01T00:00:00.{number:03d}+00:00"


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
        checks.record(rowids, at(number), equal=equal, deleted=0)
        newest |= {
            rowid: (at(number), equal) for each in rowids for rowid in range(each.first_rowid, each.last_rowid + 1)
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
    checks.record((RowidRange(1, 100), RowidRange(201, 300)), at(1), equal=True, deleted=7)
    checks.record((RowidRange(101, 200),), at(2), equal=True, deleted=5)
    assert checks.deleted_outside(()) == 12
    assert checks.deleted_outside((RowidRange(101, 200),)) == 7
    checks.record((RowidRange(1, 50),), at(3), equal=True, deleted=0)
    assert checks.deleted_outside((RowidRange(101, 200),)) == 7, "a part of a range keeps them all"
    checks.record((RowidRange(1, 100), RowidRange(201, 300)), at(4), equal=True, deleted=None)
    assert checks.deleted_outside(()) == 12, "a verification deletes nothing, and forgets nothing"
    checks.record((RowidRange(1, 100), RowidRange(201, 300)), at(5), equal=True, deleted=0)
    assert checks.deleted_outside(()) == 5
    checks.forget_deleted()
    assert Checks(tmp_path, "clients").deleted_outside(()) == 0


RIGHT: dict[str, Any] = {"first_rowid": 1, "last_rowid": 9, "checked_at": at(1), "equal": True, "deleted": 0}
_WRONG: tuple[Any, ...] = (None, "x", [])
HARMED: list[dict[str, Any]] = [
    *({name: value} for name in RIGHT for value in _WRONG),
    *({"last_rowid": value} for value in (0, 10**30, 1e400)),
    *({"deleted": -1}, {"checked_at": "2026-01-01"}, {"more": 1}),
]


@pytest.mark.parametrize(
    "content",
    [
        *("", "noise", "[]", '{"checks": [{"first_rowid": 1}]}', '{"checks": 7}', "null"),
        *(json.dumps({"checks": [RIGHT | harm]}) for harm in HARMED),
        json.dumps({"checks": [RIGHT, RIGHT]}),
    ],
)
def test_a_file_that_cannot_be_read_has_no_checks(tmp_path: Path, content: str) -> None:
    Checks(tmp_path, "clients").record((RowidRange(1, 9),), at(1), equal=True, deleted=0)
    (tmp_path / "clients_checks.json").write_text(content)
    checks = Checks(tmp_path, "clients")
    assert checks.oldest(RowidRange(1, 9)) == NEVER
    checks.record((RowidRange(1, 9),), at(1), equal=True, deleted=0)
    assert Checks(tmp_path, "clients").oldest(RowidRange(1, 9)) == at(1)


def test_what_another_command_has_recorded_meanwhile_stays(tmp_path: Path) -> None:
    verification, refresh = Checks(tmp_path, "clients"), Checks(tmp_path, "clients")
    refresh.record((RowidRange(1, 9),), at(5), equal=False, deleted=7)
    verification.record((RowidRange(5, 20),), at(3), equal=True, deleted=None)
    kept = Checks(tmp_path, "clients")
    assert kept.deleted_outside(()) == 7
    assert [kept.oldest(RowidRange(rowid, rowid)) for rowid in (5, 10)] == [at(5), at(3)]
    assert kept.proved((RowidRange(1, 20),)) == (11 / 20, at(3))
