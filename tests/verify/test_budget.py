"""Verifications and refreshes that end before all is compared: what was compared counts, and the next one goes on."""

import json
import os
import signal
import sqlite3
import time
from contextlib import closing
from itertools import count as count_from
from pathlib import Path
from typing import Any

import pytest

from etl.migrate import command as migrate
from etl.migrate.refresh import Refresh
from etl.runtime import limits
from etl.status.verifications import last_full_proof
from etl.verify.checker import Checker
from etl.verify.command import run
from etl.verify.halt import Cause, Halt
from etl.verify.inventory import Inventory
from etl.verify.scope import Scope
from tests.commands import ran
from tests.completeness import faults_of
from tests.damage import DAMAGES, FILE_DAMAGES, ROWS, Environ
from tests.system.test_refresh import refreshed
from tests.verifier import Verifier
from tests.workplace import Workplace, differences, error_line, shard_files

SOON = Scope(budget_s=1e-9)
"""Time for one block: 100 rows."""
CHUNK_ROWS = 300


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is a window of 100 rows, and a chunk has three."""
    monkeypatch.setattr("etl.verify.blocks.BLOCK_BYTES", 1)
    monkeypatch.setattr("etl.verify.blocks.CHUNK_BLOCKS", 16_500)


def checks(environ: Environ) -> list[dict[str, Any]]:
    path = Path(environ["SHARD_DIR"]) / "clients_checks.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())["checks"]
    return found


def times(environ: Environ) -> dict[int, str]:
    """When each window, by its first rowid, was compared."""
    found = checks(environ)
    return {
        first: check["checked_at"]
        for first in range(1, ROWS, 100)
        for check in found
        if check["first_rowid"] <= first <= check["last_rowid"]
    }


def test_verifications_with_a_budget_cover_everything_the_oldest_first(migrated: Environ, verify: Verifier) -> None:
    for number in range(1, ROWS // 100 + 1):
        said = verify(migrated, SOON)
        assert (said["exit_code"], said["outcome"], said["source_rows"]) == (0, "equal", 100)
        assert said["full"] is False
        assert len(times(migrated)) == number
    before = times(migrated)
    assert sorted(before, key=before.__getitem__) == sorted(before), "in the order of rowids at first"
    verify(migrated, SOON)
    verify(migrated, SOON)
    changed = [first for first, at in times(migrated).items() if before[first] != at]
    assert changed == [1, 101]
    assert "proved: 100.0 % of rowids compared and equal within 0:" in ran("etl.status", migrated).out
    assert last_full_proof(Path(migrated["SHARD_DIR"]), "clients") is None
    assert verify(migrated, Scope(budget_s=1000.0))["full"], "the budget was enough"
    assert last_full_proof(Path(migrated["SHARD_DIR"]), "clients") is not None


def test_a_budget_finds_what_differs_when_its_turn_comes(migrated: Environ, verify: Verifier) -> None:
    DAMAGES["a changed text"].apply(migrated)  # row 205
    codes = [verify(migrated, SOON)["exit_code"] for _ in range(4)]
    assert codes == [0, 0, 4, 0]
    assert [check["equal"] for check in checks(migrated) if check["first_rowid"] == 201] == [False]
    assert "proved: 15.0 %" in ran("etl.status", migrated).out


def test_few_open_files_do_not_keep_a_budget_from_its_end(
    migrated: Environ, verify: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "max_open_shards", lambda: 2)
    assert [verify(migrated, SOON)["source_rows"] for _ in range(7)] == [CHUNK_ROWS] * 6 + [200]
    assert len(times(migrated)) == ROWS // 100


def interrupted(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Sends a signal when that chunk begins."""
    real, numbers = Checker.run, iter(range(1, 1000))

    def interrupted_run(*args: Any) -> Any:
        if next(numbers) == chunk:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # the main thread handles it
        return real(*args)

    monkeypatch.setattr(Checker, "run", interrupted_run)


def test_an_interrupted_verification_keeps_its_progress(
    migrated: Environ, verify: Verifier, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        assert run(migrated) == 130
    assert "stopped by SIGINT: 30.0 % of rows compared, equal so far; files are not checked;" in capsys.readouterr().out
    assert len(times(migrated)) == 6
    assert verify(migrated, SOON)["exit_code"] == 0
    assert 601 in times(migrated)


def test_a_refresh_that_is_stopped_says_so_and_proves_what_it_compared(
    workplace: Workplace, migrated: Environ, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid = 5")
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        assert refreshed(migrated) == 130
    out = capsys.readouterr().out
    assert "stopped by SIGINT: 30.0 % of rows compared, and rows differ" in out
    assert len(times(migrated)) == 3, "the chunk that differs is not replaced yet"
    assert refreshed(migrated) == 0
    assert differences(migrated) == []


def budgeted(environ: Environ, *, allow_deletes: int | None = None) -> int:
    return migrate.run(environ, refresh=Refresh(allow_deletes, budget_s=1e-9))


def test_refreshes_with_a_budget_replace_chunk_by_chunk(workplace: Workplace) -> None:
    workplace.populate(600)
    environ = workplace.environ()
    assert migrate.run(environ) == 0
    workplace.script(
        "UPDATE clients SET note = 'new' WHERE rowid % 3 = 0",
        "UPDATE clients SET k = 'elsewhere' || rowid WHERE rowid BETWEEN 300 AND 305",
        "DELETE FROM clients WHERE rowid % 50 = 7",
    )
    assert [budgeted(environ) for _ in range(6)] == [0] * 6
    assert differences(environ) == []
    assert all(check["equal"] for check in checks(environ))
    assert sum(check["deleted"] for check in checks(environ)) == 600 // 50


def test_small_steps_do_not_release_the_brake(
    workplace: Workplace, migrated: Environ, verify: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.script("DELETE FROM clients WHERE rowid <= 1500 AND rowid % 100 < 50")  # 50 of each window
    assert [budgeted(migrated) for _ in range(4)] == [0, 0, 0, 0]
    assert verify(migrated)["differences"] == {"extra": 550}
    left = sum(count(path) for path in shard_files(migrated))
    capsys.readouterr()
    assert budgeted(migrated) == 2
    message = error_line(capsys.readouterr().err)
    assert "expected at most 200 of the shards' 2,000 rows to be gone" in message
    assert "found 50 after 200 in the last refreshes of other rowids; these were not deleted" in message
    assert sum(count(path) for path in shard_files(migrated)) == left
    assert budgeted(migrated, allow_deletes=3) == 2
    assert budgeted(migrated, allow_deletes=50) == 0
    assert sum(check["deleted"] for check in checks(migrated)) == 0
    assert budgeted(migrated) == 0


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM clients").fetchone()[0])


def test_an_option_needs_its_command(migrated: Environ) -> None:
    assert ran("etl.migrate", migrated, "--budget", "1m").code == 2
    assert ran("etl.migrate", migrated, "--refresh", "--budget", "1m").code == 0


def test_a_rate_limit_holds_it_back_and_a_time_ends_it(migrated: Environ, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run({**migrated, "MAX_RATE": "200"}, stop_after_s=0.7) == 0
    out = capsys.readouterr().out
    assert "stopped by --stop-after: " in out
    assert "equal so far" in out
    assert 0 < len(times(migrated)) < ROWS // 100


@pytest.mark.parametrize(
    "name", ["damage in two far windows", "a misplaced row", "extra rows above and below", "a strange line in a ledger"]
)
def test_damage_is_found_and_repaired_in_small_chunks(migrated: Environ, verify: Verifier, name: str) -> None:
    damage = DAMAGES[name]
    damage.apply(migrated)
    said = verify(migrated, Scope(quick=True))
    assert (said["exit_code"], said["differences"]) == (4, damage.counts)
    said = verify(migrated, Scope(quick=True), repair=True, delete_foreign=True)
    assert (said["exit_code"], said["repair"]["found"]) == (0, damage.counts)
    assert faults_of(migrated) == []


def test_a_file_that_is_damaged_in_one_chunk_is_named_once(migrated: Environ, verify: Verifier) -> None:
    FILE_DAMAGES["a page of rows overwritten"](migrated)
    assert verify(migrated)["differences"] == {"file": 1}


@pytest.mark.parametrize("cause", [Cause.STOP, Cause.RUN])
def test_it_gives_way_before_the_last_group_of_shards(
    migrated: Environ, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cause: Cause
) -> None:
    asked = count_from(1)
    monkeypatch.setattr(limits, "max_open_shards", lambda: 4)  # two groups of two shards
    monkeypatch.setattr(Halt, "cause", property(lambda _: cause if next(asked) == 4 else None))
    assert run(migrated) == 0, capsys.readouterr().err
    assert ("stopped by" in capsys.readouterr().out) == (cause is Cause.STOP)


@pytest.mark.parametrize(
    ("harm", "open_shards"),
    [("UPDATE clients SET note = 'new'", 4), ("DELETE FROM clients", 100)],
    ids=["in groups of shards", "all shards at once"],
)
def test_rows_that_are_not_looked_at_yet_are_not_called_equal(
    migrated: Environ, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, harm: str, open_shards: int
) -> None:
    for path in shard_files(migrated):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"{harm} WHERE rowid < 50")
    asked = count_from(1)
    monkeypatch.setattr(limits, "max_open_shards", lambda: open_shards)
    monkeypatch.setattr(Halt, "cause", property(lambda _: Cause.STOP if next(asked) == 4 else None))
    assert run(migrated) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert ": 0.0 % of rows compared, but the next ones may differ" in out
    assert "compared so far: 0 rows in" in out


def test_a_verification_that_is_stopped_does_not_claim_a_check_of_files(
    migrated: Environ, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Inventory.check_files

    def interrupted_check(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # the main thread handles it
        real(*args)

    monkeypatch.setattr(Inventory, "check_files", interrupted_check)
    assert run(migrated) == 130
    out = " ".join(capsys.readouterr().out.split())
    assert "100.0 % of rows compared, equal so far; files are not checked;" in out
    assert "files: " not in out
    assert run(migrated, as_json=True) == 130
    said = json.loads(capsys.readouterr().out)
    assert (said["outcome"], said["full"], said["file_check"]) == ("stopped", False, None)
