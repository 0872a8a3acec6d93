"""Live progress: a bar on a terminal of 80 columns, log lines elsewhere, and a summary at the end."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping

import pytest

from tests.workplace import REPOSITORY, Workplace, log_events, migrate, shard_files

ROWS = 600_000
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PERCENT = re.compile(r"(load|index|done)\s.*?(\d+\.\d) %")
NEEDED = ("rows", "rows/s", "B", "windows in flight", "memory")


def screen(environ: Mapping[str, str], *, columns: int = 80) -> tuple[int, str]:
    """The exit code of a run, and what it wrote to a terminal of that width."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    given = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "etl.migrate"],
        cwd=REPOSITORY,
        env={**given, "TERM": "xterm-256color", **environ},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    ) as process:
        os.close(follower)
        written = b""
        while True:
            try:
                piece = os.read(leader, 65_536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            written += piece
    os.close(leader)
    return process.returncode, ESCAPES.sub("", written.decode())


@pytest.fixture
def big(workplace: Workplace) -> Workplace:
    workplace.script(
        "CREATE TABLE clients (k TEXT, INN TEXT)",
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) "
        "INSERT INTO clients SELECT 'key' || i, i FROM n",
    )
    return workplace


def test_the_bar_on_a_terminal_never_decreases(big: Workplace) -> None:
    code, shown = screen(big.environ(BATCH_SIZE=5000, INDEX_COLUMNS="k,INN"))
    assert code == 0
    seen = [(phase, float(percent)) for phase, percent in PERCENT.findall(shown)]
    percents = [percent for _, percent in seen]
    assert len(seen) > 3
    assert percents == sorted(percents)
    assert percents[-1] <= 100
    assert {phase for phase, _ in seen} <= {"load", "index"}
    assert all(word in shown for word in NEEDED)
    lines = shown.replace("\r", "\n").splitlines()
    assert [line for line in lines if len(line) > 80 and " " in line.strip()] == [], "broken within a word"


def test_the_summary_has_totals_by_shard_and_stage(big: Workplace) -> None:
    environ = big.environ(BATCH_SIZE=5000, INDEX_COLUMNS="k")
    _, shown = screen(environ)
    shards = shown.partition("totals by shard")[2].partition("totals by stage")[0]
    rows = re.findall(r"│ +(\d+|all) │ +([\d,]+) │", shards)
    assert [name for name, _ in rows] == ["0", "1", "2", "3", "all"]
    counts = [int(count.replace(",", "")) for _, count in rows]
    assert sum(counts[:-1]) == counts[-1] == ROWS
    stages = shown.partition("totals by stage")[2]
    assert re.findall(r"│ (\w+) +│ +\d+\.\d\d │", stages) == ["read", "route", "write", "load", "index"]
    assert len(shard_files(environ)) == 4


def test_without_a_terminal_there_are_log_lines_and_no_bar(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("etl.status.progress_bar.LINE_S", 0.0)
    monkeypatch.setattr("etl.runtime.limits.READ_TASK_ROWS", 100)
    monkeypatch.setattr("etl.runtime.limits.TRANSACTION_ROWS", 100)
    workplace.populate(2_000)
    assert migrate(workplace.environ(INDEX_COLUMNS="k")) == 0
    logged = log_events(workplace, "progress")
    percents = [line["percent"] for line in logged]
    assert percents == sorted(percents)
    assert 0 < percents[-1] <= 100
    assert {"phase", "rows", "rows_per_s", "eta"} <= logged[0].keys()
    out, err = capfd.readouterr()
    assert err.count("  progress   phase=") == len(logged)
    assert "\x1b" not in out + err
    assert "totals by" not in out + err
