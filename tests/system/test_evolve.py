"""The source's columns change: new ones are added on request, with their values; other changes are refused."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import etl
from etl.migrate.command import run, show_plan
from etl.migrate.refresh import Refresh
from etl.verify.command import run as run_verify
from tests.commands import ran
from tests.completeness import faults_of
from tests.damage import Environ, spoil
from tests.faults import EVOLUTION, struck
from tests.migrate.test_plan import plan_of
from tests.verifier import Verifier
from tests.workplace import Workplace, await_line, differences, error_line, log_events, migrate, shard_files, snapshot

ROWS = 500
NEW_COLUMN = (
    "ALTER TABLE clients ADD COLUMN REMARK TEXT DEFAULT 'none'",
    "UPDATE clients SET REMARK = k WHERE rowid % 3 = 0",
)


@pytest.fixture
def small(workplace: Workplace) -> dict[str, str]:
    """The settings of a finished migration of few rows."""
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    assert migrate(environ) == 0
    return environ


def columns(path: Path, table: str = "clients") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"PRAGMA table_xinfo([{table}])").fetchall()


def refused(environ: Environ, capsys: pytest.CaptureFixture[str]) -> str:
    """Everything that writes refuses, in the same one line, and has written nothing; returns that line."""
    before = snapshot(shard_files(environ))
    capsys.readouterr()
    codes = [migrate(environ), run(environ, refresh=Refresh()), run_verify(environ, repair=True)]
    messages = capsys.readouterr().err.splitlines()
    errors = [line for line in messages if line.startswith("error: ")]
    assert (codes, len(errors), len(set(errors))) == ([2, 2, 2], 3, 1)
    assert snapshot(shard_files(environ)) == before
    assert plan_of(environ, code=2)["refusals"] == [errors[0].removeprefix("error: ")]
    return errors[0]


def test_a_new_column_is_refused_in_one_line_then_added_with_its_values(
    workplace: Workplace, small: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.script(*NEW_COLUMN, "CREATE UNIQUE INDEX by_remark ON clients (REMARK, INN, amount)")
    workplace.populate(100, first=ROWS + 1)
    message = refused(small, capsys)
    assert (
        f"SOURCE_DB={workplace.source}, TABLE_NAME=clients: the source has a new column REMARK; run with --evolve"
        in message
    )
    assert show_plan(small, evolve=True) == 0
    assert "columns to be added to the shards: REMARK" in capsys.readouterr().out
    monkeypatch.setattr("etl.migrate.evolution._ROWS_AT_ONCE", 30)
    monkeypatch.setattr("etl.shards.comparison._BATCH_ROWS", 20)
    assert run(small, evolve=True) == 0
    assert "columns added to every shard: REMARK" in capsys.readouterr().out
    assert faults_of(small) == []
    assert [columns(path) for path in shard_files(small)] == [columns(workplace.source)] * 4
    assert run(small, evolve=True) == 0
    assert "nothing new" in capsys.readouterr().out
    assert log_events(workplace, "evolved") == [log_events(workplace, "evolved")[0]]


READER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("SELECT * FROM clients").fetchone()
print("ready", flush=True)
sys.stdin.readline()
print(len(database.execute("SELECT * FROM clients").fetchone()))
"""


def test_a_reader_that_has_a_shard_open_sees_the_column(workplace: Workplace, small: dict[str, str]) -> None:
    command = [sys.executable, "-c", READER, str(shard_files(small)[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        await_line(reader, "ready")
        workplace.script(*NEW_COLUMN)
        assert run(small, evolve=True) == 0
        assert reader.communicate("\n", timeout=60)[0].split() == ["5"]


def test_only_rows_with_other_values_than_the_default_are_written(workplace: Workplace, small: dict[str, str]) -> None:
    workplace.script("ALTER TABLE clients ADD COLUMN n INTEGER DEFAULT 7", "UPDATE clients SET n = 8 WHERE rowid = 9")
    assert run(small, evolve=True) == 0
    assert log_events(workplace, "evolved")[0]["rows"] == 1
    assert differences(small) == []


def test_rows_that_are_gone_or_moved_stay_for_the_refresh(workplace: Workplace, small: dict[str, str]) -> None:
    workplace.script(
        *NEW_COLUMN,
        "UPDATE clients SET k = 'elsewhere' || rowid WHERE rowid BETWEEN 30 AND 40",
        "DELETE FROM clients WHERE rowid BETWEEN 1 AND 29",
    )
    with closing(sqlite3.connect(shard_files(small)[0])) as database, database:
        database.execute("INSERT INTO clients (rowid, k) VALUES (35000, 'of an application')")
    assert run(small, evolve=True) == 0
    with closing(sqlite3.connect(shard_files(small)[0])) as database:
        assert database.execute("SELECT count(*) FROM clients WHERE rowid = 35000").fetchone() == (1,)
    assert run(small, refresh=Refresh(delete_foreign=True)) == 0
    assert differences(small) == []


ADDED = {
    "quotes and a comma": ("(k TEXT)", 'ADD COLUMN "a ""b"", c" TEXT DEFAULT \'x, y\''),
    "a foreign key": ("(k TEXT, FOREIGN KEY (k) REFERENCES o (x))", "ADD COLUMN o INT REFERENCES other (x)"),
    "a check": ("(k TEXT, CHECK (k <> ')'))", "ADD COLUMN c INT NOT NULL DEFAULT 5 CHECK (c > 0)"),
    "a comment": ("(k TEXT /* the, key ( */ PRIMARY KEY, -- and\n x)", "ADD COLUMN c /* , */ REAL"),
    "STRICT": ("(k TEXT) STRICT", "ADD COLUMN c ANY DEFAULT 2.5"),
    "computed": ("(k TEXT)", "ADD COLUMN c TEXT AS (k || 'c') VIRTUAL"),
    "a name of the rowid": ("(k TEXT)", "ADD COLUMN rowid INT"),
    "a collation": ("(k TEXT)", "ADD COLUMN c TEXT COLLATE NOCASE DEFAULT 'A'"),
}


@pytest.mark.parametrize(("table", "change"), ADDED.values(), ids=ADDED.keys())
def test_a_column_arrives_as_the_source_declares_it(workplace: Workplace, table: str, change: str) -> None:
    workplace.script(
        f"PRAGMA encoding = '{'UTF-16le' if 'STRICT' in table else 'UTF-8'}'", f"CREATE TABLE [a b] {table}"
    )
    workplace.script("INSERT INTO [a b] (k) VALUES ('a'), ('б'), ('c'), ('d')")
    environ = workplace.environ(TABLE_NAME="a b", INDEX_COLUMNS="k")
    assert migrate(environ) == 0
    workplace.script(f"ALTER TABLE [a b] {change}", "ALTER TABLE [a b] ADD COLUMN last TEXT DEFAULT 'ж'")
    workplace.script("UPDATE [a b] SET last = 'z' WHERE k <> 'a'")
    assert [migrate(environ), run(environ, evolve=True), migrate(environ)] == [2, 0, 0]
    assert faults_of(environ) == []
    assert [columns(path, "a b") for path in shard_files(environ)] == [columns(workplace.source, "a b")] * 4
    assert run_verify(environ) == 0


KILLS = [
    (name, {"between two shards' new columns": 1, "between two evolved shards": 2}.get(name, 3)) for name in EVOLUTION
]


@pytest.mark.parametrize(("name", "n"), KILLS)
def test_a_run_killed_while_it_evolves_is_completed_by_the_next_and_forgotten_by_none(
    workplace: Workplace, small: dict[str, str], capsys: pytest.CaptureFixture[str], name: str, n: int
) -> None:
    workplace.script(*NEW_COLUMN)
    workplace.populate(100, first=ROWS + 1)
    outcome = struck(small, name, n)
    assert outcome.code == -signal.SIGKILL, f"never at {name!r} {n} times: exit {outcome.code}, {outcome.err}"
    assert migrate(small) == 2
    assert "the source has a new column REMARK; run with --evolve" in error_line(capsys.readouterr().err)
    assert etl.scan_shards(small["SHARD_DIR"]).collect().height == ROWS
    assert run(small, evolve=True) == 0
    assert faults_of(small) == []
    assert migrate(small) == 0


def test_half_evolved_shards_are_read(
    workplace: Workplace, small: dict[str, str], verify: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.script(*NEW_COLUMN)
    assert struck(small, "between two shards' new columns", 1).code == -signal.SIGKILL
    assert etl.scan_shards(small["SHARD_DIR"]).collect_schema().names() == ["k", "INN", "note", "amount"]
    with closing(etl.open_shard("+70000000001", shard_dir=small["SHARD_DIR"])) as database:
        database.execute("SELECT k FROM clients").fetchall()
    assert [ran(f"etl.{command}", small).code for command in ("status", "report")] == [0, 0]
    said = verify(small)
    assert (said["exit_code"], {note["kind"] for note in said["notes"]}) == (4, {"schema"})
    assert {rows["count"] for rows in said["rows"].values()} == {0}, "the columns that all have are the same"
    texts = {note["text"] for note in said["notes"]}
    assert texts == {
        "lacks the source's new column REMARK; python -m etl.migrate --evolve",
        "lacks values of old rows in its new column REMARK; python -m etl.migrate --evolve",
    }
    workplace.script("UPDATE clients SET note = 'changed' WHERE rowid = 77")
    assert verify(small)["rows"]["changed"] == {"count": 1, "first_rowids": [77]}
    assert run_verify(small) == 4
    out = capsys.readouterr().out
    assert "next: python -m etl.migrate --evolve" in out
    assert (out.count("lacks the source's"), out.count("lacks values")) == (1, 1), "one line for all shards"


CHANGES = {
    "ALTER TABLE clients RENAME COLUMN note TO remark": "column note renamed to remark",
    "ALTER TABLE clients DROP COLUMN note": "without the column note",
}


@pytest.mark.parametrize(("statement", "text"), CHANGES.items())
def test_another_change_is_refused_with_the_way_out_and_verify_goes_on(
    *, workplace: Workplace, capsys: pytest.CaptureFixture[str], verify: Verifier, statement: str, text: str
) -> None:
    workplace.populate(50)
    environ = workplace.environ()
    assert migrate(environ) == 0
    workplace.script(statement)
    assert f"found another schema: {text}; no run can follow this change" in refused(environ, capsys)
    assert run(environ, evolve=True) == 2
    said = verify(environ)
    assert (said["exit_code"], {note["kind"] for note in said["notes"]}) == (4, {"schema"})
    assert f"{text}; load the table again into an empty SHARD_DIR" in said["notes"][0]["text"]


@pytest.mark.parametrize(
    "table",
    [
        'create table "clients" ("k" text, [INN] TEXT /* tax */, `note` TEXT, amount real)',
        "CREATE TABLE clients (K TEXT, inn TEXT, -- a comment, with a comma\n note TEXT,amount REAL\n)",
    ],
)
def test_a_text_that_is_only_spelled_otherwise_is_no_difference(workplace: Workplace, table: str) -> None:
    workplace.populate(50)
    environ = workplace.environ(INDEX_COLUMNS="k")
    workplace.script("CREATE INDEX own ON clients (INN, note COLLATE NOCASE) WHERE note <> 'X'")
    assert migrate(environ) == 0
    workplace.script("DROP TABLE clients", table)
    workplace.populate(60)
    workplace.script("CREATE INDEX own ON clients (\"inn\",[note]  collate nocase) where NOTE<>'X'")
    assert [migrate(environ), migrate(environ), run_verify(environ)] == [0, 0, 0]
    workplace.script("ALTER TABLE clients ADD COLUMN more TEXT", "UPDATE clients SET more = k")
    assert run(environ, evolve=True) == 0
    assert faults_of(environ) == []


def test_a_shard_that_somebody_altered_is_named(
    small: dict[str, str], capsys: pytest.CaptureFixture[str], verify: Verifier
) -> None:
    path = shard_files(small)[1]
    spoil(path, "ALTER TABLE clients DROP COLUMN amount", "ALTER TABLE clients ADD COLUMN mine INT")
    assert migrate(small) == 2
    message = error_line(capsys.readouterr().err)
    assert f"{path}: expected the source's CREATE TABLE" in message
    assert plan_of(small, code=2)["refusals"] == [message.removeprefix("error: ")]
    assert {(note["kind"], note["place"]) for note in verify(small)["notes"]} == {("file", str(path))}
    path.unlink()
    assert migrate(small) == 0
    assert faults_of(small) == []
