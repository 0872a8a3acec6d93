"""What must not be resumed is refused before anything is written: other settings, another table, foreign files."""

import re

import pytest

from tests.workplace import Workplace, error_line, migrate, shard_files, snapshot

IDENTITY = {"NUM_SHARDS": ("13", "17"), "RESERVED_SHARD": ("21", "23"), "SHARD_KEY": ("k", "INN")}


def assert_stopped(environ: dict[str, str], stderr: pytest.CaptureFixture[str]) -> str:
    """The run refuses, in one line, and has written nothing; returns that line."""
    before = snapshot(shard_files(environ))
    stderr.readouterr()
    assert migrate(environ) == 2
    assert snapshot(shard_files(environ)) == before
    return error_line(stderr.readouterr().err)


@pytest.mark.parametrize(("name", "values"), IDENTITY.items(), ids=IDENTITY.keys())
def test_a_changed_setting_stops_a_resume(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], name: str, values: tuple[str, str]
) -> None:
    workplace.populate(500)
    assert migrate(workplace.environ(**{name: values[0]})) == 0
    message = assert_stopped(workplace.environ(**{name: values[1]}), capfd)
    assert all(re.search(rf"\b{value}\b", message) for value in values)


def test_a_changed_table_stops_a_resume(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    workplace.populate(500)
    assert migrate(workplace.environ()) == 0
    workplace.script("ALTER TABLE clients ADD COLUMN later TEXT")
    assert assert_stopped(workplace.environ(), capfd)


FOREIGN = {
    "another database": ("CREATE TABLE clients (k)", "INSERT INTO clients VALUES ('not ours')"),
    "an identity without its row": ("CREATE TABLE _etl_identity (source)",),
    "a text": (),
}


@pytest.mark.parametrize("statements", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_file_stops_a_run_before_it_writes(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], statements: tuple[str, ...]
) -> None:
    workplace.shards.mkdir()
    foreign = workplace.shards / "clients_shard_02.db"
    workplace.script(*statements)
    if not statements:
        workplace.source.write_text("a text of someone else's\n" * 99)
    workplace.source.rename(foreign)
    workplace.populate(500)
    assert "clients_shard_02.db" in assert_stopped(workplace.environ(), capfd)
    assert shard_files(workplace.environ()) == [foreign]
