"""Two runs started at the same moment: one works, the other exits 3 and says who works."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.completeness import faults_of
from tests.workplace import REPOSITORY, Workplace

ROWS = 700
RUNNER = """
import contextlib, io, json, os, sys
from etl.migrate import command as migrate
print(os.getpid(), flush=True)
for line in sys.stdin:  # a start at the word of the test: imports would set the two apart
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        code = migrate.run({**os.environ, "SHARD_DIR": line.strip()})
    print(json.dumps([code, err.getvalue()]), flush=True)
"""


def start(environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def heard(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def assert_one_works(place: Workplace, *, times: int) -> None:
    place.populate(ROWS)
    environ = place.environ(INDEX_COLUMNS="k", BATCH_SIZE=1, READERS=1)  # long enough for two to meet
    with start(environ) as left, start(environ) as right:
        pids = [heard(process) for process in (left, right)]
        for attempt in range(times):
            home = str(place.root / f"shards{attempt}")
            for process in (left, right):
                assert process.stdin is not None
                print(home, file=process.stdin, flush=True)
            outcomes = [heard(process) for process in (left, right)]
            codes = [code for code, _ in outcomes]
            assert sorted(codes) == [0, 3], outcomes
            worker, refused = pids[codes.index(0)], outcomes[codes.index(3)][1]
            assert len(refused.splitlines()) == 1
            assert re.search(rf"\bpid {worker}\b", refused)
            assert faults_of(environ | {"SHARD_DIR": home}) == []


def test_of_two_runs_at_the_same_moment_one_works_twenty_times(workplace: Workplace) -> None:
    assert_one_works(workplace, times=20)


@pytest.mark.soak
def test_of_two_runs_at_the_same_moment_one_works_a_thousand_times(workplace: Workplace) -> None:
    assert_one_works(workplace, times=1000)
