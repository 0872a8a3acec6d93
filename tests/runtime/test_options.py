"""Durations, the rate limit, and an option for each setting."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from etl.migrate.command import app as migrate
from etl.runtime.options import Given, duration_s, with_settings
from etl.runtime.rate_limit import RateLimit
from etl.runtime.settings import Settings, load

SECONDS = {"90s": 90, "10m": 600, "2h": 7_200, "1h30m": 5_400, "1d": 86_400, "365d": 365 * 86_400}


@pytest.mark.parametrize(("text", "seconds"), SECONDS.items())
def test_a_duration_is_a_number_of_seconds(text: str, seconds: int) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "0s", "-5m", "1.5h", "2 h", "h", "10m ", "1w", "366d", "٣m", "9" * 400 + "s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a duration"):
        duration_s(text)


class Clock:
    """A clock on which only sleeping takes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr("etl.runtime.rate_limit.time.monotonic", lambda: self.now_s)
        monkeypatch.setattr("etl.runtime.rate_limit.time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_rows_are_held_back_to_the_rate_also_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limit = RateLimit(100)
    for _ in range(10):
        limit.wait(50, lambda: True)
    assert clock.now_s == pytest.approx(1005)
    clock.now_s += 3600  # it could have read many rows meanwhile, and does not do so now
    limit.wait(500, lambda: True)
    assert clock.now_s == pytest.approx(1005 + 3600 + 5)


def test_a_stop_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    RateLimit(1).wait(1_000_000, lambda: clock.now_s < 1001)
    assert clock.now_s == pytest.approx(1001)


def test_without_a_rate_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    RateLimit(None).wait(1_000_000, lambda: True)
    assert clock.now_s == 1000


def test_each_setting_is_an_option_and_goes_before_the_environment_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env_file = tmp_path / "other.env"
    env_file.write_text("NUM_SHARDS=4\nREADERS=2\nSHARDS_DIR=y\n")
    monkeypatch.setenv("READERS", "3")
    monkeypatch.delenv("NUM_SHARDS", raising=False)
    found: list[Settings] = []
    app = typer.Typer()

    @app.command()
    @with_settings
    def main(keys: list[str], *, given: Given, quick: bool = False) -> None:
        found.append(load(given.environ, given.env_file))
        assert (keys, quick) == (["a", "b"], True)

    app(
        ["a", "b", "--quick", "--env-file", str(env_file), "--batch-size", "7", "--on-success", "x"],
        standalone_mode=False,
    )
    (settings,) = found
    assert (settings.NUM_SHARDS, settings.READERS, settings.BATCH_SIZE, settings.ON_SUCCESS) == (4, 3, 7, "x")
    assert capsys.readouterr().err.startswith(f"warning: SHARDS_DIR in {env_file}, line 3 is no setting")
    help_page = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert [name for name in Settings.model_fields if f"--{name.lower().replace('_', '-')} " not in help_page] == []


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("--source", ["--source-db"]),
        ("--sh", ["--shard-dir", "--shard-key"]),
        ("--forc", []),
        ("--allow-delete", []),
        ("--delete_foreign", []),
    ],
)
def test_an_unknown_option_gets_a_suggestion_but_no_dangerous_one(typed: str, suggested: list[str]) -> None:
    answer = CliRunner().invoke(migrate, [typed, "1"])
    assert answer.exit_code == 2
    assert re.findall(r"--[\w-]+", answer.output.splitlines()[-1]) == [typed, *suggested]


def test_the_demo_takes_no_settings() -> None:
    answer = CliRunner().invoke(migrate, ["--demo", "--source-db", "x", "--env-file", __file__])
    assert answer.exit_code == 2
    assert "--demo has settings of its own; leave out --env-file, --source-db" in answer.output


def test_a_file_of_settings_that_is_named_must_be_there() -> None:
    app = typer.Typer()

    @app.command()
    @with_settings
    def main(*, given: Given) -> None:
        raise AssertionError(given)

    assert CliRunner().invoke(app, ["--env-file", "none.env"]).exit_code == 2
