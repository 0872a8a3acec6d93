"""What cron would mail: nothing of a run that succeeds, and every warning and error."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from etl.runtime import lock
from tests.commands import ran
from tests.workplace import REPOSITORY, Outcome, Workplace

SILENT = Outcome(0, "", "")


@pytest.fixture
def environ(workplace: Workplace) -> dict[str, str]:
    workplace.populate(500)
    workplace.logs.mkdir()
    return workplace.environ(INDEX_COLUMNS="k")


def test_a_run_without_a_terminal_that_succeeds_says_nothing(workplace: Workplace, environ: dict[str, str]) -> None:
    assert ran("etl.migrate", environ) == SILENT
    assert ran("etl.migrate", environ) == SILENT, "nothing new"
    workplace.populate(100, first=501)
    assert ran("etl.migrate", environ) == SILENT, "new rows"


def test_verbose_says_what_a_terminal_shows(environ: dict[str, str]) -> None:
    loaded, nothing = ran("etl.migrate", environ, "-v"), ran("etl.migrate", environ, "--verbose")
    assert loaded.out.startswith("done: 500 rows")
    assert "loaded" in loaded.err
    assert nothing.out == "nothing new: the source has no rowid above 500\n"


def test_a_terminal_needs_no_option(environ: dict[str, str], tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "etl.migrate"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "dumb", **environ},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    with process, closing(os.fdopen(ours, "rb", buffering=0)) as terminal:
        said = b""
        while chunk := _read(terminal.fileno()):
            said += chunk
        out, _ = process.communicate()
    assert out.startswith("done: 500 rows")
    assert b"loaded" in said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


def test_what_a_load_leaves_out_is_said_once(workplace: Workplace, environ: dict[str, str]) -> None:
    workplace.script("CREATE TRIGGER t AFTER INSERT ON clients BEGIN SELECT 1; END")
    environ |= {"RESERVED_SHARD": "1"}
    first = ran("etl.migrate", environ)
    assert (first.code, first.out) == (0, "")
    assert [line.split()[1] for line in first.err.splitlines()] == ["triggers", "reserved"]
    workplace.populate(100, first=501)
    assert ran("etl.migrate", environ) == SILENT


def test_errors_are_always_said(workplace: Workplace, environ: dict[str, str]) -> None:
    refused = ran("etl.migrate", environ | {"TABLE_NAME": "other"})
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: ")
    workplace.shards.mkdir(exist_ok=True)
    with lock.exclusive(workplace.shards, "2020-01-01T00:00:00+00:00"):
        busy = ran("etl.migrate", environ)
    assert busy.code == 3
    assert "is at work here" in busy.err


def test_a_stop_before_the_end_is_always_said(environ: dict[str, str]) -> None:
    stopped = ran("etl.migrate", environ, "--max-rate", "1", "--stop-after", "1s")
    assert stopped.code == 0
    assert stopped.out.endswith("the load is not complete; run again to resume\n")
    assert ran("etl.migrate", environ) == SILENT
