"""Every kind of table arrives, every kind of source that cannot is refused, and the source stays untouched."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.oracle import quoted
from tests.specimens import ACCEPTED, PLAIN, REFUSED
from tests.workplace import Workplace, differences, error_line, migrate, snapshot

HOSTILE = [
    "two words",
    'a "quote"',
    "it's",
    "50%",
    "%41",
    "#1",
    "who?",
    "?mode=rwc",
    "Клиенты 😀",
    "select",
    "a]b",
    "[x]",
    "`",
    ";--",
    ":x",
    "$x",
]
NO_DATABASES = {
    "nothing": b"",
    "text": b"no database at all " * 99,
    "a false header": b"SQLite format 3\0" + b"noise" * 999,
}


def assert_refused(
    place: Workplace, environ: dict[str, str], complaint: str, stderr: pytest.CaptureFixture[str]
) -> None:
    stderr.readouterr()
    before = snapshot([place.source])
    assert migrate(environ) == 2
    assert re.search(complaint, error_line(stderr.readouterr().err))
    assert not list(place.root.rglob("*_shard_*"))
    assert snapshot([place.source]) == before


@pytest.mark.parametrize("statements", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_every_table_arrives_and_its_file_is_untouched(workplace: Workplace, statements: tuple[str, ...]) -> None:
    workplace.script(*statements)
    environ, before = workplace.environ(INDEX_COLUMNS="k,nowhere"), snapshot([workplace.source])
    assert migrate(environ) == 0
    assert differences(environ) == []
    assert snapshot([workplace.source]) == before


@pytest.mark.parametrize("name", [*HOSTILE, "a/b", "../up", "_", "1"])
def test_any_table_and_column_name_works(workplace: Workplace, name: str) -> None:
    workplace.script(
        f"CREATE TABLE {quoted(name)} ({quoted(name)} TEXT, n)",
        f"INSERT INTO {quoted(name)} VALUES ('a', 1), ('b', 2), ('', 3)",
    )
    environ = workplace.environ(TABLE_NAME=name, SHARD_KEY=name, INDEX_COLUMNS=f"n,{name}")
    assert migrate(environ) == 0
    assert differences(environ) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_any_path_works(workplace: Workplace, name: str) -> None:
    home = workplace.root / name
    home.mkdir()
    workplace.script(*PLAIN)
    workplace.source.rename(home / f"{name}.db")
    environ = workplace.environ(SOURCE_DB=home / f"{name}.db", SHARD_DIR=home / "shards", LOG_DIR=home / "logs")
    assert migrate(environ) == 0
    assert differences(environ) == []
    assert {path.name for path in workplace.root.iterdir()} == {name}


@pytest.mark.parametrize(("statements", "complaint"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_migrated_is_refused(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], statements: tuple[str, ...], complaint: str
) -> None:
    workplace.script(*statements)
    assert_refused(workplace, workplace.environ(), complaint, capfd)


@pytest.mark.parametrize("content", NO_DATABASES.values(), ids=NO_DATABASES.keys())
def test_a_file_that_is_no_database_is_refused(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    workplace.source.write_bytes(content)
    assert_refused(workplace, workplace.environ(), re.escape(str(workplace.source)), capfd)


def test_a_refusal_is_one_line_on_stderr(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    assert migrate(workplace.environ()) == 2
    assert len(capfd.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("path", ["absent.db", "absent dir/absent.db", "."])
def test_a_missing_source_is_refused_and_not_made(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], path: str
) -> None:
    source = workplace.root / path
    assert_refused(workplace, workplace.environ(SOURCE_DB=source), path, capfd)
    assert not list(workplace.root.rglob("absent*"))


WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA wal_autocheckpoint = 0")
database.execute("INSERT INTO clients (k) SELECT k || '-wal' FROM clients")
database.commit()
database.execute("BEGIN IMMEDIATE")
database.execute("INSERT INTO clients (k) VALUES ('never committed')")
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def writer(place: Workplace) -> Iterator[subprocess.Popen[str]]:
    """Another process that has put rows in the -wal only, and is in the middle of a transaction."""
    place.script("PRAGMA journal_mode = WAL", *PLAIN)
    arguments = [sys.executable, "-c", WRITER, str(place.source)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize("alive", [True, False], ids=["of a live writer", "of a dead writer"])
def test_rows_only_in_the_wal_arrive(workplace: Workplace, *, alive: bool) -> None:
    wal = Path(f"{workplace.source}-wal")
    with writer(workplace) as process:
        if not alive:
            process.kill()
            process.wait()
        environ, before = workplace.environ(), snapshot([workplace.source, wal])
        assert before[wal]
        assert migrate(environ) == 0
        assert differences(environ) == []
        assert snapshot([workplace.source, wal]) == before


def test_a_shard_is_named_for_the_table_and_stays_in_its_directory(workplace: Workplace) -> None:
    workplace.script('CREATE TABLE "../a b%/1" (k)', "INSERT INTO \"../a b%/1\" VALUES ('x')")
    assert migrate(workplace.environ(TABLE_NAME="../a b%/1", NUM_SHARDS=1, RESERVED_SHARD=123)) == 0
    assert {path.name for path in workplace.shards.glob("*.db")} == {
        "..%2Fa b%%2F1_shard_00.db",
        "..%2Fa b%%2F1_shard_123.db",
    }
