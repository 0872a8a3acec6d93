"""Power loss: each shard, and the manifest, as they were at some earlier moment; the next run makes them whole."""

import random
import shutil
from pathlib import Path

import pytest

from tests import faults
from tests.completeness import faults_of
from tests.oracle import opened
from tests.workplace import Workplace, finished, migrate

ROWS = 4_000
MOST_STATES = 40
SLOW = ("before a read", 10**9, faults.nothing)
"""No fault, but tiny budgets: a few thousand rows make hundreds of transactions."""


def recorded(place: Workplace, environ: dict[str, str], copies: Path, dice: random.Random) -> int:
    """A whole run whose files are copied at random moments, journals and -wal along with them; how many times."""
    with faults.start(environ, *SLOW) as process:
        taken = faults.states(process, place.shards, copies, dice, most=MOST_STATES)
        outcome = finished(process)
    assert outcome.code == 0, outcome.err
    return taken


def roll_back(place: Workplace, copies: Path, dice: random.Random, taken: int) -> int:
    """Each shard goes back to a moment of its own, with what belongs to it; how many journals came with them."""
    journals = 0
    for path in sorted(place.shards.glob("*_shard_*.db")):
        moment = copies / f"{dice.randrange(taken):03d}"
        for suffix in ("", "-journal", "-wal", "-shm"):
            name = path.name + suffix
            (place.shards / name).unlink(missing_ok=True)
            if (moment / name).exists() and suffix != "-shm":  # shared memory is nowhere on the disk
                shutil.copy(moment / name, place.shards / name)
                journals += suffix != "" and (moment / name).stat().st_size > 0
    shutil.rmtree(place.shards / "manifest", ignore_errors=True)
    manifest = copies / f"{dice.randrange(taken):03d}" / "manifest"
    if manifest.is_dir():
        shutil.copytree(manifest, place.shards / "manifest")
    return journals


def assert_survived(place: Workplace, *, seed: int, times: int) -> None:
    """A first load and an increment over serving shards, each rolled back so many times."""
    dice, journals = random.Random(seed), 0
    environ = place.environ(INDEX_COLUMNS="k,INN")
    for first in (1, ROWS + 1):
        place.populate(ROWS, first=first, seed=first)
        copies = place.root / f"copies {first}"
        taken = recorded(place, environ, copies, dice)
        assert taken >= 5, "the run was too quick to be rolled back"
        for _ in range(times):
            journals += roll_back(place, copies, dice, taken)
            assert migrate(environ) == 0
            assert faults_of(environ) == []
    assert journals, "no moment was in the middle of a transaction"


@pytest.mark.parametrize("seed", [1, 2])
def test_shards_rolled_back_to_any_moments_are_made_whole(workplace: Workplace, seed: int) -> None:
    assert_survived(workplace, seed=seed, times=4)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_shards_rolled_back_again_and_again_are_made_whole(workplace: Workplace, seed: int) -> None:
    assert_survived(workplace, seed=seed, times=20)


def test_windows_that_a_rolled_back_shard_lost_are_loaded_again_into_all(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ()
    assert migrate(environ) == 0
    early = workplace.root / "early"
    shutil.copytree(workplace.shards, early)
    workplace.populate(ROWS, first=ROWS + 1)
    assert migrate(environ) == 0
    first, *others = sorted(workplace.shards.glob("*.db"))
    before = _last_runs(first)
    shutil.copy(early / first.name, first)
    assert migrate(environ) == 0
    assert faults_of(environ) == []
    again = [_last_runs(path) for path in (first, *others)]
    assert all(runs == again[0] for runs in again)
    assert [len(before), len(again[0])] == [2, 2]
    assert before[0] == again[0][0], "what all shards had is left alone"
    assert before[1] != again[0][1]


def _last_runs(path: Path) -> list[str]:
    database = opened(path)
    try:
        query = "SELECT run_id FROM _etl_windows GROUP BY run_id ORDER BY min(first_rowid)"
        return [run_id.decode() for (run_id,) in database.execute(query)]
    finally:
        database.close()
