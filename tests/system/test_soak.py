"""Long trials: `pytest -m soak`. A bounded share of each stands in test_kill.py and test_refresh.py."""

import random
import signal
import time

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests import faults
from tests.completeness import faults_of
from tests.system.test_refresh import Years
from tests.workplace import Workplace, finished, migrate

KILLS = 200
SHARES = 10
ROWS = 4_000
YEARS_S = 1_800
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


@pytest.mark.soak
@pytest.mark.parametrize("share", range(SHARES))
def test_half_an_hour_of_changes_runs_and_refreshes(share: int) -> None:  # noqa: ARG001 - each share is at random
    end = time.monotonic() + YEARS_S / SHARES
    longer = settings(max_examples=20, stateful_step_count=60, derandomize=False, database=None)
    while time.monotonic() < end:
        run_state_machine_as_test(Years, settings=longer)
