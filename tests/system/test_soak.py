"""Long trials by kill -9 at random instants: `pytest -m soak`; a bounded share of each stands in test_kill.py."""

import random
import signal
import time

import pytest

from tests import faults
from tests.completeness import faults_of
from tests.workplace import Workplace, finished, migrate

KILLS = 200
SHARES = 10
ROWS = 4_000
SLOW = ("before a read", 10**9, faults.nothing)


@pytest.mark.soak
@pytest.mark.parametrize("share", range(SHARES))
def test_two_hundred_kills_at_random_instants_lose_nothing(workplace: Workplace, share: int) -> None:
    """Over load, indexing and manifest alike; some runs are killed while they mend what a kill before them left."""
    dice, killed = random.Random(share), 0
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    workplace.populate(ROWS)
    start = time.monotonic()
    with faults.start(environ, *SLOW) as process:
        assert finished(process).code == 0
    undisturbed_s = time.monotonic() - start
    for kill in range(KILLS // SHARES):
        workplace.populate(ROWS, first=(kill + 1) * ROWS + 1, seed=kill + 1)
        with faults.start(environ, *SLOW) as process:
            time.sleep(dice.uniform(0.4, 1.0) * undisturbed_s)  # the first part of it is imports
            process.kill()
            killed += finished(process).code == -signal.SIGKILL
        if kill % 4 == 3:
            assert migrate(environ) == 0
            assert faults_of(environ) == []
    assert killed > KILLS // SHARES / 3
