"""A run that is stopped, hindered or robbed of its manifest: it says so in one line, and the next run completes it."""

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.migrate.command import run
from tests.completeness import faults_of, manifest
from tests.faults import HANG_SECONDS, MARKER, fail, hang, hang_up, start, struck
from tests.workplace import Workplace, await_line, error_line, finished, migrate

ROWS = 2_000
LIMITED = ("sh", "-c", 'ulimit -f "$1"; shift; exec "$@"', "sh")


def assert_completed(environ: dict[str, str]) -> None:
    assert migrate(environ) == 0
    assert faults_of(environ) == []


def test_a_hangup_lets_windows_in_flight_commit(workplace: Workplace) -> None:
    workplace.populate(10 * ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    stopped = struck(environ, "before a commit", 2, hang_up)
    assert stopped.code == 128 + signal.SIGHUP, stopped.err
    assert "stopped by SIGHUP" in stopped.out
    assert 0 < manifest(environ)["rows"].sum() < 10 * ROWS
    assert_completed(environ)


@pytest.mark.parametrize("name", ["before a commit", "after a read", "before an index"])
@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)],
)
def test_a_second_signal_aborts_at_once(
    workplace: Workplace, name: str, first: signal.Signals, second: signal.Signals
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    with start(environ, name, 2, hang) as process:
        await_line(process, "hanging")
        begun = time.monotonic()
        process.send_signal(first)
        await_line(process, "press again to stop at once", of_stderr=True)
        process.send_signal(second)
        aborted = finished(process)
    assert time.monotonic() - begun < HANG_SECONDS / 4
    assert aborted.code == 128 + second
    assert aborted.err.splitlines()[-1] == f"{second.name}: stopped at once; run again to resume"
    assert_completed(environ)


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("before a shard has its identity", 2),
        ("before a read", 5),
        ("mid-batch", 1),
        ("mid-batch", 30),
        ("before a ledger line", 3),
        ("before a commit", 7),
        ("between two shards' commits", 3),
        ("before a manifest file", 1),
        ("before a manifest file's name", 2),
        ("among the compacted parts", 2),
        ("before an index", 3),
        ("before a shard turns to WAL", 2),
    ],
)
def test_an_error_in_any_thread_ends_the_run_and_the_next_completes_it(workplace: Workplace, name: str, n: int) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    failed = struck(environ, name, n, fail)
    assert failed.code == 1, failed.err
    assert error_line(failed.err).startswith("error: unexpected RuntimeError")
    assert MARKER not in failed.out + failed.err
    assert_completed(environ)


# In blocks of 512 bytes, so that the disk is full at different stages of the work.
@pytest.mark.parametrize("blocks", [8, 40, 160, 700, 1100])
def test_a_full_disk_ends_the_run_in_one_line_and_the_next_completes_it(workplace: Workplace, blocks: int) -> None:
    workplace.populate(60_000)
    environ = workplace.environ(BATCH_SIZE=2000, INDEX_COLUMNS="k,INN,note")
    full = workplace.command(environ, *LIMITED, str(blocks))
    assert full.code == 1, full.err
    errors = [line for line in full.err.splitlines() if line.startswith("error: ")]
    assert errors == [error_line(full.err)]
    assert "unexpected" not in errors[0]
    assert str(workplace.root) in errors[0]
    assert_completed(environ)


def parts(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.parquet"))


def garble(directory: Path) -> None:
    parts(directory)[0].write_bytes(b"noise" * 99)


def empty(directory: Path) -> None:
    parts(directory)[0].write_bytes(b"")


def truncate(directory: Path) -> None:
    parts(directory)[0].write_bytes(parts(directory)[0].read_bytes()[:-9])


def double(directory: Path) -> None:
    shutil.copy(parts(directory)[0], directory / "copy.parquet")


def rob(directory: Path) -> None:
    pl.read_parquet(parts(directory)[0])[::2].write_parquet(parts(directory)[0])


def invent(directory: Path) -> None:
    frame = pl.read_parquet(parts(directory)[0])
    window = frame[:1].with_columns(first_rowid=90_000, last_rowid=91_000).cast(frame.schema)
    window.write_parquet(directory / "a.parquet")


def replace(directory: Path) -> None:
    pl.DataFrame({"first_rowid": ["text"], "other": [1]}).write_parquet(parts(directory)[0])


HARMS: list[Any] = [garble, empty, truncate, double, rob, invent, replace, shutil.rmtree]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("new_rows", [0, 500])
def test_a_manifest_that_is_lost_or_spoilt_is_made_again(
    workplace: Workplace, harm: Callable[[Path], object], new_rows: int
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    assert migrate(environ) == 0
    harm(workplace.shards / "manifest")
    if new_rows:
        workplace.populate(new_rows, first=ROWS + 1)
    assert_completed(environ)


def test_a_manifest_that_cannot_be_written_ends_the_run_in_one_line(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(ROWS)
    workplace.shards.mkdir()
    (workplace.shards / "manifest").write_text("in the way")
    assert migrate(workplace.environ()) == 1
    assert str(workplace.shards / "manifest") in error_line(capfd.readouterr().err)
    (workplace.shards / "manifest").unlink()
    assert_completed(workplace.environ())


@pytest.mark.parametrize("wanted", ["k,INN", "INN"])
def test_an_index_asked_for_later_is_made_by_the_next_run(workplace: Workplace, wanted: str) -> None:
    workplace.populate(ROWS)
    assert_completed(workplace.environ(INDEX_COLUMNS="k"))
    assert_completed(workplace.environ(INDEX_COLUMNS=wanted))


DEAF = {
    "a closed stdout": ("sh", "-c", 'exec "$@" >&-', "sh"),
    "a closed stderr": ("sh", "-c", 'exec "$@" 2>&-', "sh"),
    "a stdout on a full disk": ("sh", "-c", 'exec "$@" >/dev/full', "sh"),
    "a stderr on a full disk": ("sh", "-c", 'exec "$@" 2>/dev/full', "sh"),
    "head": ("bash", "-c", '"$@" | head -c 0; exit ${PIPESTATUS[0]}', "bash"),
    "head for both": ("bash", "-c", '"$@" 2>&1 | head -c 0; exit ${PIPESTATUS[0]}', "bash"),
}


@pytest.mark.parametrize("ears", DEAF.values(), ids=DEAF.keys())
@pytest.mark.parametrize("code", [0, 2])
def test_a_run_that_nobody_listens_to_does_its_work_and_keeps_its_code(
    workplace: Workplace, ears: tuple[str, ...], code: int
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    deaf = workplace.command(environ | ({"NUM_SHARDS": "none"} if code else {}), *ears)
    assert deaf.code == code
    assert "Traceback" not in deaf.out + deaf.err
    assert "Exception" not in deaf.out + deaf.err
    if not code:
        assert faults_of(environ) == []


def test_a_signal_that_comes_when_all_is_done_stops_nothing(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k", WRITERS=1)
    late = struck(environ, "after a shard has turned to WAL", 4, hang_up)
    assert late.code == 0, late.err
    assert late.out.startswith("done: ")
    assert faults_of(environ) == []


def test_a_signal_between_two_shards_indexes_says_to_run_again(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k", WRITERS=1)
    early = struck(environ, "after a shard has turned to WAL", 1, hang_up)
    assert early.code == 128 + signal.SIGHUP, early.err
    assert "run again to resume" in early.out
    assert_completed(environ)


def test_a_second_hangup_is_the_closing_terminals_and_aborts_nothing(workplace: Workplace) -> None:
    workplace.populate(10 * ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    with start(environ, "after a read", 2, hang) as process:
        await_line(process, "hanging")
        process.send_signal(signal.SIGHUP)
        await_line(process, "press again to stop at once", of_stderr=True)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert finished(process).code == 128 + signal.SIGTERM
    assert_completed(environ)


def test_the_end_of_the_time_is_no_failure_and_the_next_run_goes_on(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("etl.runtime.limits.READ_TASK_ROWS", 100)
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    assert run(environ | {"MAX_RATE": str(ROWS // 10)}, speaks=False, stop_after_s=1) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"stopped by --stop-after: .* rows? in .*; the load is not complete; run again to resume\n", said
    )
    done = manifest(environ)["rows"].sum() if list((workplace.shards / "manifest").glob("*")) else 0
    assert done < ROWS
    status = json.loads((workplace.shards / "clients_status.json").read_text())
    assert (status["outcome"], status["exit_code"], status["last_success_at"]) == ("stopped", 0, None)
    assert run(environ, stop_after_s=600) == 0
    assert f"done: {ROWS - done:,} rows" in capsys.readouterr().out
    assert faults_of(environ) == []


def test_a_time_that_is_up_when_nothing_is_left_has_stopped_nothing(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ()
    assert migrate(environ) == 0
    assert run(environ, stop_after_s=0.001) == 0
    assert "nothing new" in capsys.readouterr().out


def test_a_rate_limit_waits_between_reads_and_a_signal_ends_the_wait(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(MAX_RATE=1)  # it would take half an hour
    with workplace.start(environ) as process:
        await_line(process, "plan", of_stderr=True)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        stopped = finished(process)
    assert stopped.code == 128 + signal.SIGTERM
    assert_completed(environ | {"MAX_RATE": ""})
