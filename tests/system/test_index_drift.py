"""The source's indexes, or the settings for them, change: the next run brings the shards' indexes into line."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from etl.migrate.command import run
from etl.runtime import settings
from etl.shards import shard_set
from etl.sources import schema
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
    assert {*map(frozenset, map(indexes, shard_files(indexed)))} == {frozenset({"idx_clients_note", "idx_clients_k"})}
    assert migrate(indexed) == 0
    assert_in_line(workplace, indexed, "idx_clients_k")


KEY_INDEX = {
    "none": ((), {"idx_clients_k"}),
    "one that begins with it": (("CREATE INDEX own ON clients (k, note)",), {"own"}),
    "one that continues with it": (("CREATE INDEX own ON clients (note, k)",), {"own", "idx_clients_k"}),
    "of some rows": (("CREATE INDEX own ON clients (k) WHERE note > 'm'",), {"own", "idx_clients_k"}),
    "of another collation": (("CREATE INDEX own ON clients (k COLLATE NOCASE)",), {"own", "idx_clients_k"}),
    "another of that name": (("CREATE INDEX idx_clients_k ON clients (note)",), {"idx_clients_k", "idx_clients_k_key"}),
}


@pytest.mark.parametrize(("statements", "names"), KEY_INDEX.values(), ids=KEY_INDEX.keys())
def test_the_shard_key_is_always_indexed(workplace: Workplace, statements: tuple[str, ...], names: set[str]) -> None:
    workplace.populate(ROWS)
    workplace.script(*statements)
    environ = workplace.environ(INDEX_COLUMNS="")
    assert migrate(environ) == 0
    assert run_verify(environ) == 0
    for path in shard_files(environ):
        assert indexes(path).keys() == names
        with closing(sqlite3.connect(path)) as database:
            ((*_, step),) = database.execute("EXPLAIN QUERY PLAN SELECT * FROM clients WHERE k = 'a'")
        assert step.startswith("SEARCH") or path == shard_files(environ)[-1], "the last has only rows without a key"


@pytest.mark.parametrize("declared", ["k TEXT UNIQUE", "k INTEGER PRIMARY KEY", "k TEXT, PRIMARY KEY (k, note)"])
def test_a_key_that_the_table_itself_indexes_gets_no_index(workplace: Workplace, declared: str) -> None:
    first, _, constraint = declared.partition(", ")
    workplace.script(f"CREATE TABLE clients ({', '.join(filter(None, (first, 'note TEXT', constraint)))})")
    table, _ = schema.inspect(workplace.source, "clients", "k")
    assert shard_set.indexes(settings.load(workplace.environ()), table) == ()


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
    assert_in_line(workplace, environ, "idx_clients_k")


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
    assert_in_line(workplace, environ, "idx_clients_k")


def test_a_new_column_and_its_unique_index_come_together(workplace: Workplace, indexed: dict[str, str]) -> None:
    workplace.script(
        "ALTER TABLE clients ADD COLUMN u INT NOT NULL DEFAULT 0",
        "UPDATE clients SET u = rowid",
        "CREATE UNIQUE INDEX by_u ON clients (u)",
    )
    assert run(indexed, evolve=True) == 0
    assert_in_line(workplace, indexed, "idx_clients_k")
