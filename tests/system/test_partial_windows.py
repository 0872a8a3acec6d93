"""Windows that only some shards have: the source may have changed since, so every shard gets them again."""

import json
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from etl.status import command as status
from etl.verify import command as verify
from etl.verify.scope import Scope
from tests.completeness import faults_of, ledger
from tests.faults import struck
from tests.workplace import Workplace, log_events, migrate, shard_files, snapshot

ROWS = 2_000
DISCARD = "between two shards' discards"
KILLS = [
    [("between two shards' commits", 1)],
    [("between two shards' commits", 2)],
    [("between two shards' commits", 3)],
    [("between two shards' commits", 10)],
    [("before a commit", 9)],
    [("between two shards' commits", 3), (DISCARD, 1)],
    [("between two shards' commits", 10), (DISCARD, 2)],
    [("between two shards' commits", 10), (DISCARD, 1), ("between two shards' commits", 5)],
]


def ledgers(environ: Mapping[str, str]) -> list[set[tuple[int, int]]]:
    """Each shard's windows, read from a copy: journals are left to the next run."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(environ["SHARD_DIR"], copy, dirs_exist_ok=True)
        found: list[set[tuple[int, int]]] = []
        for shard in range(4):
            path = Path(copy) / f"clients_shard_{shard:02d}.db"
            with closing(sqlite3.connect(path)) as database:
                made = database.execute("SELECT 1 FROM sqlite_master WHERE name = '_etl_windows'").fetchone()
            found.append(set(ledger(path)) if made else set())
        return found


def change_what_is_not_done(workplace: Workplace, environ: Mapping[str, str]) -> bool:
    """Gives some of the rows outside completed windows other keys, and deletes some; whether a window was partial."""
    found = ledgers(environ)
    done = set.intersection(*found)
    outside = " AND ".join(f"rowid NOT BETWEEN {first} AND {last}" for first, last in done) or "1"
    workplace.script(
        f"DELETE FROM clients WHERE rowid % 20 = 3 AND {outside}",
        f"UPDATE clients SET k = 'moved ' || rowid WHERE rowid % 20 = 0 AND {outside}",
    )
    return set.union(*found) != done


@pytest.mark.parametrize("serving", [False, True], ids=["a first load", "an increment"])
@pytest.mark.parametrize("kills", KILLS, ids=[" then ".join(f"{name} {n}" for name, n in kills) for kills in KILLS])
def test_rows_that_changed_after_a_kill_are_in_their_own_shard_once(
    workplace: Workplace, kills: list[tuple[str, int]], *, serving: bool
) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    if serving:
        workplace.populate(ROWS)
        assert migrate(environ) == 0
    workplace.populate(ROWS, first=ROWS + 1, seed=2)
    was_partial = False
    for name, n in kills:
        outcome = struck(environ, name, n)
        assert outcome.code == -signal.SIGKILL, outcome.err
        was_partial |= change_what_is_not_done(workplace, environ)
    assert was_partial, "no kill came while the ledgers differed"
    assert migrate(environ) == 0
    assert faults_of(environ) == []


def without_a_shard(workplace: Workplace) -> dict[str, str]:
    """The settings of a finished migration that has lost a shard's file."""
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    shard_files(environ)[1].unlink()
    return environ


@pytest.mark.parametrize("killed", [False, True], ids=["in one run", "in a run that is killed and one that goes on"])
def test_a_lost_shard_is_rebuilt_alone(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], *, killed: bool
) -> None:
    environ = without_a_shard(workplace)
    before = {path: state.digest for path, state in snapshot(shard_files(environ)).items()}
    if killed:
        assert struck(environ, "between two shards' commits", 3).code == -signal.SIGKILL
        rebuilt = ledgers(environ)[1]
        assert 0 < len(rebuilt) < len(ledgers(environ)[0]), "the kill came before or after the rebuild"
    assert migrate(environ) == 0
    assert {path: state.digest for path, state in snapshot(before).items()} == before
    assert faults_of(environ) == []
    if not killed:
        rows = sum(ledger(shard_files(environ)[1]).values())
        assert f"done: {rows} rows in" in capsys.readouterr().out, "only what was written counts"
        assert log_events(workplace, "loaded")[-1]["rows"] == rows
        assert sum(event["rows"] for event in log_events(workplace, "window")) == ROWS + rows
        run = json.loads((workplace.shards / "clients_status.json").read_text())
        assert (run["rows"], run["rows_read"]) == (rows, rows)


def test_the_lag_of_a_lost_shard_is_its_own_rows(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    workplace.populate(7, first=ROWS + 1)
    rows = sum(ledger(shard_files(environ)[1]).values())
    shard_files(environ)[1].unlink()
    capsys.readouterr()
    assert status.run(environ, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["lost_rows"] for each in found["shards"]] == [0, rows, 0, 0]
    assert found["lag_rows"] == rows + 7
    assert status.run(environ) == 0
    assert f"shard 1 has lost {rows} rows; the next run loads them again" in capsys.readouterr().out


def test_a_rebuilt_shard_waits_for_a_full_verification(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows whose key changed after the first load are now in two shards, or in none: only a comparison can tell."""
    environ = without_a_shard(workplace)

    def says(command: Callable[[dict[str, str]], int], code: int = 0) -> bool:
        capsys.readouterr()
        assert command(environ) == code
        return "shard 1 was loaded later than the others" in capsys.readouterr().out

    workplace.script("UPDATE clients SET k = 'moved ' || rowid WHERE rowid % 10 = 0")
    assert says(migrate)
    assert says(migrate), "a run with nothing new says it, too"
    assert says(status.run)
    assert not says(lambda settings: verify.run(settings, repair=True))
    assert faults_of(environ) == []
    assert not says(status.run)
    assert not says(migrate)
    assert not says(lambda settings: verify.run(settings, scope=Scope(percent=10.0)))
    assert not says(migrate), "a sample does not replace the proof"


def test_shards_loaded_by_the_same_runs_wait_for_nothing(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = workplace.environ()
    for first in (1, ROWS + 1):
        workplace.populate(ROWS, first=first)
        assert struck(environ, "between two shards' commits", 3).code == -signal.SIGKILL
        assert migrate(environ) == 0
        assert status.run(environ) == 0
        assert "later than the others" not in capsys.readouterr().out
