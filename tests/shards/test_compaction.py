"""Old windows joined: the same rowids and rows in fewer lines, and a set with joined lines is loaded as any other."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core import ranges
from etl.core.model import RowidRange
from etl.shards import manifest_schema
from etl.shards.ledger_arrays import Ledger
from etl.status.command import rebuild_manifest
from tests.completeness import faults_of, ledger, manifest
from tests.damage import rewrite_manifest
from tests.oracle import opened
from tests.verifier import Verifier
from tests.workplace import Workplace, log_events, migrate, shard_files

Line = tuple[RowidRange, int]


@st.composite
def ledger_lines(draw: st.DrawFn) -> list[Line]:
    """Lines around zero, some with gaps between them, some without rows."""
    lines: list[Line] = []
    first = draw(st.integers(-30, 0))
    for gap, span, rows in draw(
        st.lists(st.tuples(st.sampled_from([0, 0, 0, 3]), st.integers(1, 9), st.integers(0, 9)))
    ):
        first += gap
        last = -1 if first < 0 <= first + span - 1 else first + span - 1
        lines.append((RowidRange(first, last), min(rows, last - first + 1)))
        first = last + 1
    return lines


def arrays(lines: list[Line]) -> Ledger:
    columns = [(window.first_rowid, window.last_rowid, rows) for window, rows in lines]
    return Ledger(*(np.array(column, np.int64) for column in zip(*columns, strict=True))) if lines else EMPTY


EMPTY = Ledger(*(np.zeros(0, np.int64) for _ in range(3)))


@given(lines=ledger_lines(), most=st.integers(1, 9), newest=st.integers(0, 5))
def test_joined_lines_have_the_same_rowids_and_rows(lines: list[Line], most: int, newest: int) -> None:
    before = arrays(lines)
    after = before.joined(most=most, newest=newest)
    assert after.coverage == before.coverage == ranges.union(window for window, _ in lines)
    assert before.rows_of(after.windows).tolist() == after.rows.tolist()
    assert not any(window.first_rowid < 0 <= window.last_rowid for window in after.windows)
    assert (
        after.windows[len(after.windows) - min(newest, len(lines)) :] == before.windows[max(0, len(lines) - newest) :]
    )
    must_stay_apart = len(ranges.split_at_zero(before.coverage))
    assert len(after.windows) <= most + newest + 2 * must_stay_apart


@given(lines=ledger_lines(), data=st.data())
def test_the_windows_of_two_ledgers_are_those_that_both_can_make_up(lines: list[Line], data: st.DataObject) -> None:
    """Two ledgers of the same rowids, joined in different ways."""
    whole = arrays(lines)
    sides = [whole.joined(most=data.draw(st.integers(1, 5)), newest=data.draw(st.integers(0, 3))) for _ in range(2)]
    common = sides[0].common(sides[1])
    assert common.coverage == whole.coverage
    assert common.rows.tolist() == [2 * rows for rows in whole.rows_of(common.windows).tolist()]
    cuts = [{window.last_rowid for window in side.windows} for side in sides]
    assert {window.last_rowid for window in common.windows} == cuts[0] & cuts[1]


@given(lines=ledger_lines().filter(bool), data=st.data())
def test_a_window_is_found_where_lines_make_it_up_exactly(lines: list[Line], data: st.DataObject) -> None:
    first, last = (data.draw(st.sampled_from(lines))[0] for _ in range(2))
    shift = data.draw(st.sampled_from([0, 0, 0, 1]))
    wanted = RowidRange(*sorted((first.first_rowid, last.last_rowid + shift)))
    inside = [(each, rows) for each, rows in lines if each in wanted]
    exact = ranges.union(each for each, _ in inside) == (wanted,)
    assert arrays(lines).rows_of([wanted]).tolist() == [sum(rows for _, rows in inside) if exact else -1]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.shards.compaction.MOST_LINES", 20)
    monkeypatch.setattr("etl.shards.compaction.JOINED_LINES", 6)
    monkeypatch.setattr("etl.shards.compaction.NEWEST_LINES", 4)


def runs(workplace: Workplace, environ: dict[str, str], count: int, *, first: int = 1) -> None:
    """So many runs, each with 20 new rows."""
    for number in range(count):
        workplace.populate(20, first=first + 20 * number, seed=number)
        assert migrate(environ) == 0


@pytest.fixture
def old(workplace: Workplace, small: None) -> dict[str, str]:  # noqa: ARG001 - a fixture that has an effect
    """The settings of a set with joined lines."""
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    workplace.populate(2_500)
    assert migrate(environ) == 0  # 25 windows
    runs(workplace, environ, 2, first=2_501)
    return environ


def test_a_set_with_joined_lines_is_complete_and_equal(old: dict[str, str], verify: Verifier) -> None:
    lines = [ledger(path) for path in shard_files(old)]
    assert {len(each) for each in lines} == {9}
    assert len({tuple(each) for each in lines}) == 1
    assert sorted(lines[0])[-6:] == [(first, first + 99) for first in (2101, 2201, 2301, 2401)] + [
        (2501, 2520),
        (2521, 2540),
    ]
    assert faults_of(old) == []
    assert verify(old)["outcome"] == "equal"
    assert manifest(old)["bytes"].null_count() == 0


def test_a_joined_line_has_the_first_run_and_the_last_commit(workplace: Workplace, small: None) -> None:  # noqa: ARG001
    environ = workplace.environ()
    runs(workplace, environ, 21)
    path = shard_files(environ)[0]
    with closing(opened(path)) as database:
        before = database.execute("SELECT * FROM _etl_windows ORDER BY 1").fetchall()
    assert len(before) == 21
    assert migrate(environ) == 0
    with closing(opened(path)) as database:
        after = database.execute("SELECT * FROM _etl_windows ORDER BY 1").fetchall()
    assert len(after) < 12
    assert after[-4:] == before[-4:]
    for first, last, rows, run_id, committed_at in after:
        parts = [line for line in before if first <= line[0] <= last]
        assert (parts[0][0], parts[-1][1]) == (first, last)
        assert (rows, run_id) == (sum(line[2] for line in parts), min(line[3] for line in parts))
        assert committed_at == max(line[4] for line in parts)


WINDOWS = 10_000


def split_into_windows(environ: dict[str, str]) -> None:
    """Makes a window of each row, as thousands of small runs would have; the manifest has 60 files."""
    first = range(1, WINDOWS + 1)
    shares: dict[int, set[int]] = {}
    for number, path in enumerate(shard_files(environ)):
        with closing(sqlite3.connect(path)) as database, database:
            shares[number] = {rowid for (rowid,) in database.execute("SELECT rowid FROM clients")}
            database.execute("DELETE FROM _etl_windows")
            database.executemany(
                "INSERT INTO _etl_windows VALUES (?1, ?1, ?2, ?3, '2026-01-01T00:00:00.000001+00:00')",
                ((rowid, rowid in shares[number], f"20260101T000000.{rowid:06d}Z-7") for rowid in first),
            )
    directory = Path(environ["SHARD_DIR"], "manifest")
    (path,) = directory.iterdir()
    like = pl.read_parquet(path).head(1)
    path.unlink()
    lines = like.select(pl.all().repeat_by(WINDOWS).explode()).with_columns(
        run_id=pl.Series([f"20260101T000000.{rowid:06d}Z-7" for rowid in first]),
        first_rowid=pl.Series(first, dtype=pl.Int64),
        last_rowid=pl.Series(first, dtype=pl.Int64),
        rows=pl.lit(1, pl.Int64),
        rows_by_shard=pl.Series(
            [[{"shard": shard, "rows": int(rowid in share)} for shard, share in shares.items()] for rowid in first]
        ),
    )
    for number, part in enumerate(manifest_schema.with_checks(lines).iter_slices(WINDOWS // 60)):
        part.write_parquet(directory / f"20260101T000000.{number:06d}Z-7.parquet")


def test_years_of_small_runs_leave_few_lines_and_few_files(workplace: Workplace, verify: Verifier) -> None:
    environ = workplace.environ()
    workplace.populate(WINDOWS)
    assert migrate(environ) == 0
    split_into_windows(environ)
    assert {len(ledger(path)) for path in shard_files(environ)} == {WINDOWS}
    assert migrate(environ) == 0
    lines = ledger(shard_files(environ)[0])
    assert 1_000 < len(lines) < 5_000
    assert sorted(lines)[-100:] == [(rowid, rowid) for rowid in range(WINDOWS - 99, WINDOWS + 1)]
    assert len(list((workplace.shards / "manifest").iterdir())) == 1
    assert faults_of(environ) == []
    assert verify(environ)["outcome"] == "equal"
    assert migrate(environ) == 0
    assert len(log_events(workplace, "joined")) == 1, "and not again"


def test_a_lost_shard_gets_joined_windows_in_parts(
    old: dict[str, str], workplace: Workplace, verify: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.runtime.limits.READ_TASK_ROWS", 100)
    shard_files(old)[1].unlink()
    workplace.populate(30, first=2_541)
    assert migrate(old) == 0
    (event,) = [line for line in log_events(workplace, "joined") if line["fewer"] > 0][-1:]
    assert event["windows"] == 10
    assert faults_of(old) == []
    assert verify(old)["outcome"] == "equal"


def test_a_rebuild_killed_within_a_joined_window_goes_on(old: dict[str, str]) -> None:
    """As a kill leaves it: the rebuilt shard has a part of a joined line."""
    path = shard_files(old)[1]
    path.unlink()
    assert migrate(old) == 0
    (first, last), *_ = sorted(ledger(path))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("DELETE FROM clients WHERE rowid > ?", (first + 49,))
        database.execute("DELETE FROM _etl_windows WHERE first_rowid > ?", (first,))
        database.execute("UPDATE _etl_windows SET last_rowid = ?, rows = (SELECT count(*) FROM clients)", (first + 49,))
    assert last > first + 49
    assert migrate(old) == 0
    assert faults_of(old) == []


def test_an_older_copy_of_a_shard_is_loaded_again_though_the_others_have_joined_lines(
    workplace: Workplace,
    small: None,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    environ = workplace.environ()
    runs(workplace, environ, 10)
    path = shard_files(environ)[2]
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, tmp_path / "older.db")
    runs(workplace, environ, 15, first=201)
    assert len(ledger(path)) < 20
    shutil.copy(tmp_path / "older.db", path)
    assert migrate(environ) == 0
    assert faults_of(environ) == []


def test_a_line_of_the_manifest_that_was_edited_is_still_found_after_its_neighbours_were_joined(
    workplace: Workplace,
    verify: Verifier,
    small: None,  # noqa: ARG001
) -> None:
    environ = workplace.environ()
    workplace.populate(2_500)
    assert migrate(environ) == 0
    is_first = pl.col("first_rowid") == 301
    rewrite_manifest(lambda frame: frame.with_columns(bytes=pl.col("bytes") + is_first.cast(pl.Int64)))(environ)
    assert migrate(environ) == 0
    assert len(ledger(shard_files(environ)[0])) < 20
    assert verify(environ)["differences"] == {"manifest": 1}
    assert rebuild_manifest(environ) == 0
    assert verify(environ)["differences"] == {}
