"""The log: flat JSON lines with settings, windows, shards and the end; never the text of a library's error."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from etl.sources.reader import Source
from tests.completeness import manifest
from tests.faults import MARKER, Point, fail
from tests.workplace import Workplace, error_line, log_events, log_lines, migrate

Line = dict[str, Any]
SCALARS = (str, int, float, bool, type(None))
WINDOW = {"first_rowid", "last_rowid", "rows", "rows_per_s", "bytes", "read_ms", "route_ms", "write_ms"}
ROWS = 1_000


def migrated(place: Workplace, **settings: str | int) -> None:
    place.populate(ROWS)
    assert migrate(place.environ(**settings)) == 0


def assert_flat(line: Line) -> None:
    nested = {"settings"} if line["event"] == "start" else {"traceback"} if line["event"] == "error" else set()
    assert list(line)[:3] == ["time", "level", "event"]
    assert all(isinstance(value, SCALARS) for name, value in line.items() if name not in nested), line
    assert line["time"].endswith("+00:00")
    assert line["level"] in ("DEBUG", "INFO", "WARNING", "ERROR")


def test_every_line_is_a_flat_object_in_the_order_of_time(workplace: Workplace) -> None:
    migrated(workplace, INDEX_COLUMNS="k,INN", RESERVED_SHARD=1)
    for line in log_lines(workplace):
        assert_flat(line)
    (path,) = (workplace.logs / "logs").iterdir()
    assert path.name.startswith("migration_")
    assert path.suffix == ".log"
    times = [line["time"] for line in log_lines(workplace)]
    assert times == sorted(times)
    assert (log_lines(workplace)[0]["event"], log_lines(workplace)[-1]["event"]) == ("start", "end")


def test_the_start_has_the_effective_settings(workplace: Workplace) -> None:
    migrated(workplace, INDEX_COLUMNS="k,INN")
    (start,) = log_events(workplace, "start")
    settings = start["settings"]
    assert settings["SOURCE_DB"] == str(workplace.source)
    assert (settings["NUM_SHARDS"], settings["INDEX_COLUMNS"], settings["TOTAL_ROWS"]) == (3, ["k", "INN"], None)
    others = {"TOTAL_ROWS", "GARB_COL_TICKER_MINUTES", "COPY_INDEXES", "ENGINE", "METRICS_FILE"} | {
        "MAX_RATE",
        "MAX_DELETE_PERCENT",
        "CURSOR_COLUMN",
        "LOG_RETENTION_DAYS",
    }
    assert settings.keys() == {*workplace.environ(), *others}
    assert start["run_id"] == manifest(workplace.environ())["run_id"][0]


def test_each_window_has_a_line_that_agrees_with_the_manifest(workplace: Workplace) -> None:
    migrated(workplace)
    windows = log_events(workplace, "window")
    assert all(window.keys() >= WINDOW for window in windows)
    assert sum(window["rows"] for window in windows) == ROWS
    kept = ["first_rowid", "last_rowid", "rows", "bytes"]
    expected = manifest(workplace.environ()).select(kept).sort("first_rowid").rows()
    assert sorted(tuple(window[name] for name in kept) for window in windows) == expected
    assert all(window["bytes"] > 0 and window["rows_per_s"] > 0 for window in windows)


def test_each_shard_has_its_totals(workplace: Workplace) -> None:
    migrated(workplace)
    totals = {line["shard"]: line for line in log_events(workplace, "shard")}
    assert totals.keys() == {0, 1, 2, 3}
    by_shard = manifest(workplace.environ())["rows_by_shard"].explode().struct.unnest()
    assert {shard: line["rows"] for shard, line in totals.items()} == dict(by_shard.group_by("shard").sum().rows())
    sizes = {shard: (workplace.shards / f"clients_shard_{shard:02d}.db").stat().st_size for shard in totals}
    assert {shard: line["bytes"] for shard, line in totals.items()} == sizes


def test_the_end_has_the_exit_code_and_the_rows(workplace: Workplace) -> None:
    migrated(workplace)
    (end,) = log_events(workplace, "end")
    assert (end["exit_code"], end["rows"]) == (0, ROWS)


def test_a_run_with_nothing_new_logs_the_shards_and_the_end(workplace: Workplace) -> None:
    migrated(workplace)
    again = Workplace(workplace.root / "again")
    assert migrate(workplace.environ(LOG_DIR=again.logs)) == 0
    assert sum(line["rows"] for line in log_events(again, "shard")) == ROWS
    assert [(end["exit_code"], end["rows"]) for end in log_events(again, "end")] == [(0, 0)]
    assert log_events(again, "window") == []


def test_triggers_that_are_not_carried_are_named(workplace: Workplace) -> None:
    workplace.populate(10)
    for name in ("one", "Второй"):
        workplace.script(f'CREATE TRIGGER "{name}" AFTER INSERT ON clients BEGIN SELECT 1; END')
    assert migrate(workplace.environ()) == 0
    (line,) = log_events(workplace, "triggers")
    assert (line["level"], line["not_carried"]) == ("WARNING", "one, Второй")


@pytest.mark.parametrize(("reserved", "warnings"), [(0, 1), (2, 1), (3, 0), (9, 0)])
def test_a_reserved_shard_among_the_hashed_ones_warns(workplace: Workplace, reserved: int, warnings: int) -> None:
    migrated(workplace, RESERVED_SHARD=reserved)
    assert [line["level"] for line in log_events(workplace, "reserved")] == ["WARNING"] * warnings


def test_the_collection_tick_and_memory_are_logged(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.status.progress_bar.LINE_S", 0.0)
    migrated(workplace, GARB_COL_TICKER_MINUTES="0.00001")
    for name in ("memory", "collected"):
        assert all(line["rss_mb"] > 10 and line["threads"] > 0 for line in log_events(workplace, name))
        assert log_events(workplace, name)


def test_an_unexpected_error_is_one_line_and_its_text_is_nowhere(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Source, "read", Point(Source, "read").struck(2, fail))
    monkeypatch.setattr("etl.runtime.limits.READ_TASK_ROWS", 1)
    workplace.populate(ROWS)
    capfd.readouterr()
    assert migrate(workplace.environ()) == 1
    out, err = capfd.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert errors == [error_line(err)]
    assert "RuntimeError" in errors[0]
    (log,) = (workplace.logs / "logs").iterdir()
    assert str(log) in errors[0]
    assert MARKER not in out + err
    assert not [path for path in workplace.root.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]
    (error,) = log_events(workplace, "error")
    assert_flat(error)
    assert any("in fail" in frame or frame.endswith(" fail") for frame in error["traceback"])
    assert any("reader.py" in frame for frame in error["traceback"])
    assert [end["exit_code"] for end in log_events(workplace, "end")] == [1]


def test_a_refusal_is_logged_with_its_line(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    assert migrate(workplace.environ()) == 2
    (error,) = log_events(workplace, "error")
    assert f"error: {error['error']}" == error_line(capfd.readouterr().err)
    assert [end["exit_code"] for end in log_events(workplace, "end")] == [2]


def test_a_log_that_cannot_be_written_refuses_the_run(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    workplace.populate(10)
    workplace.logs.write_text("in the way")
    assert migrate(workplace.environ()) == 2
    message = error_line(capfd.readouterr().err)
    assert "LOG_DIR" in message
    assert str(Path(workplace.logs)) in message


DAY_S = 86_400
OLD = "migration_20250101T000000.000000Z.log"
ITS_OWN = (OLD, "verify_20250101T000000.000001Z.log")
OTHERS = (
    "migration.log",
    "migration_20250101.log",
    f"copy of {OLD}",
    f"{OLD}.gz",
    "report_20250101T000000.000000Z.log",
    "Migration_20250101T000000.000000Z.log",
)


@pytest.mark.parametrize(("days", "age_days", "stay"), [("30", 31, False), ("30", 29, True), ("", 9999, True)])
def test_only_old_logs_of_this_program_are_deleted(
    workplace: Workplace, tmp_path: Path, days: str, age_days: int, *, stay: bool
) -> None:
    logs = workplace.logs / "logs"
    logs.mkdir(parents=True)
    foreign = [logs / name for name in OTHERS] + [workplace.logs / OLD]
    for path in (*foreign, *(logs / name for name in ITS_OWN), tmp_path / "kept.log"):
        path.write_text("{}\n")
    link, directory = logs / OLD.replace("2025", "2024"), logs / OLD.replace("2025", "2023")
    link.symlink_to(tmp_path / "kept.log")
    directory.mkdir()
    then = time.time() - age_days * DAY_S
    for path in (*foreign, *(logs / name for name in ITS_OWN), link, directory):
        os.utime(path, (then, then), follow_symlinks=False)
    migrated(workplace, LOG_RETENTION_DAYS=days)
    assert [(logs / name).exists() for name in ITS_OWN] == [stay, stay]
    assert all(path.exists() for path in (*foreign, link, directory, tmp_path / "kept.log"))
    assert len(list(logs.glob("migration_2*.log"))) == 4 + stay, "and the log of this run"
