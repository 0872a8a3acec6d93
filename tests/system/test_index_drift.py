"""The source's indexes, or the settings for them, change: the next run brings the shards' indexes into line."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from etl.migrate.command import run
from etl.verify.command import run as run_verify
from tests.completeness import faults_of
from tests.damage import spoil
from tests.faults import struck
from tests.verifier import Verifier
from tests.workplace import Workplace, error_line, log_events, migrate, shard_files

ROWS = 400
OWN = "CREATE INDEX own ON clients (INN)"
MINE = "CREATE INDEX mine ON clients (amount)"


@pytest.fixture
def indexed(workplace: Workplace) -> dict[str, str]:
    """The settings of a finished migration of a table with an index."""
    workplace.populate(ROWS)
    workplace.script(OWN)
    environ = workplace.environ(INDEX_COLUMNS="k")
    assert migrate(environ) == 0
    return environ


def indexes(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"))


def assert_in_line(place: Workplace, environ: dict[str, str], *more: str) -> None:
    """The shards have the source's indexes and these, all shards the same, and a verification agrees."""
    wanted = indexes(place.source)
    for path in shard_files(environ):
        found = indexes(path)
        assert {name: found.pop(name, None) for name in wanted} == wanted
        assert found.keys() == set(more)
    assert faults_of(environ) == []
    assert run_verify(environ) == 0


CHANGES = {
    "new": ("CREATE INDEX more ON clients (note) WHERE note <> ''",),
    "dropped": ("DROP INDEX own",),
    "redefined under its name": ("DROP INDEX own", "CREATE UNIQUE INDEX own ON clients (k, INN, note, amount)"),
    "in other letters": ("DROP INDEX own", "CREATE INDEX OWN ON clients (INN DESC)"),
    "named as the one of INDEX_COLUMNS": ("CREATE INDEX idx_clients_k ON clients (k, INN)",),
}


@pytest.mark.parametrize("new_rows", [0, 50])
@pytest.mark.parametrize("statements", CHANGES.values(), ids=CHANGES.keys())
def test_the_next_run_brings_indexes_into_line(
    *, workplace: Workplace, indexed: dict[str, str], verify: Verifier, statements: tuple[str, ...], new_rows: int
) -> None:
    workplace.script(*statements)
    said = verify(indexed)
    assert (said["exit_code"], {note["kind"] for note in said["notes"]}) == (4, {"index"})
    workplace.populate(new_rows, first=ROWS + 1)
    assert migrate(indexed) == 0
    assert_in_line(workplace, indexed, *{"idx_clients_k"} - indexes(workplace.source).keys())
    count = len(log_events(workplace, "finished"))
    assert migrate(indexed) == 0
    assert len(log_events(workplace, "finished")) == count, "nothing is left to do"


def test_a_repair_brings_indexes_into_line_too(workplace: Workplace, indexed: dict[str, str]) -> None:
    workplace.script("DROP INDEX own", "CREATE INDEX new ON clients (note)")
    assert run_verify(indexed, repair=True) == 0
    assert_in_line(workplace, indexed, "idx_clients_k")


def test_settings_decide_too(workplace: Workplace, indexed: dict[str, str]) -> None:
    assert migrate(indexed | {"COPY_INDEXES": "false", "INDEX_COLUMNS": "note"}) == 0
    assert {*map(frozenset, map(indexes, shard_files(indexed)))} == {frozenset({"idx_clients_note"})}
    assert migrate(indexed) == 0
    assert_in_line(workplace, indexed, "idx_clients_k")


def test_an_index_of_an_application_stays(workplace: Workplace, indexed: dict[str, str]) -> None:
    for path in shard_files(indexed):
        spoil(path, MINE, "DROP INDEX own", "CREATE INDEX own ON clients (INN, k)")
    workplace.script("DROP INDEX own")
    assert migrate(indexed) == 0
    assert [indexes(path).keys() for path in shard_files(indexed)] == [{"mine", "own", "idx_clients_k"}] * 4


def test_in_shards_of_an_earlier_version_an_index_that_is_gone_stays(
    workplace: Workplace, indexed: dict[str, str]
) -> None:
    for path in shard_files(indexed):
        spoil(path, "DROP TABLE _etl_schema")
    workplace.script("DROP INDEX own", "CREATE INDEX new ON clients (note)")
    assert migrate(indexed) == 0
    assert_in_line(workplace, indexed, "own", "idx_clients_k")
    workplace.script("DROP INDEX new")
    assert migrate(indexed) == 0
    assert_in_line(workplace, indexed, "own", "idx_clients_k")


@pytest.mark.parametrize(("name", "n"), [("before an index", 2), ("before a small shard's indexes are committed", 2)])
def test_a_run_killed_between_two_indexes_is_completed_by_the_next(
    workplace: Workplace, indexed: dict[str, str], name: str, n: int
) -> None:
    workplace.script("DROP INDEX own", "CREATE INDEX own ON clients (note)", "CREATE INDEX two ON clients (INN)")
    assert struck(indexed, name, n).code == -signal.SIGKILL
    assert migrate(indexed) == 0
    assert_in_line(workplace, indexed, "idx_clients_k")


def test_an_old_unique_index_keeps_no_new_rows_out(workplace: Workplace) -> None:
    workplace.script("CREATE TABLE clients (k TEXT, u INT)", "CREATE UNIQUE INDEX own ON clients (u)")
    workplace.script("INSERT INTO clients VALUES ('a', 1), ('b', 2)")
    environ = workplace.environ()
    assert migrate(environ) == 0
    workplace.script("DROP INDEX own", "INSERT INTO clients VALUES ('a', 1), ('b', 1), ('b', 2)")
    assert migrate(environ) == 0
    assert_in_line(workplace, environ)


def test_a_new_unique_index_that_stale_rows_break_says_what_to_do(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.script("CREATE TABLE clients (k TEXT, u INT)", "INSERT INTO clients VALUES ('a', 1), ('a', 1)")
    environ = workplace.environ()
    assert migrate(environ) == 0
    workplace.script("UPDATE clients SET u = rowid", "CREATE UNIQUE INDEX own ON clients (u)")
    assert migrate(environ) == 1
    message = error_line(capsys.readouterr().err)
    assert "UNIQUE constraint failed" in message
    assert "run python -m etl.verify --repair, then run again" in message
    assert run_verify(environ, repair=True) == 2, "equal, but the load is unfinished"
    assert migrate(environ) == 0
    assert_in_line(workplace, environ)


def test_a_new_column_and_its_unique_index_come_together(workplace: Workplace, indexed: dict[str, str]) -> None:
    workplace.script(
        "ALTER TABLE clients ADD COLUMN u INT NOT NULL DEFAULT 0",
        "UPDATE clients SET u = rowid",
        "CREATE UNIQUE INDEX by_u ON clients (u)",
    )
    assert run(indexed, evolve=True) == 0
    assert_in_line(workplace, indexed, "idx_clients_k")
