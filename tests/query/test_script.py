"""python -m etl.route --sql and --duckdb: the scripts run in their programs and show the source's rows."""

import importlib.util
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer.testing import CliRunner

from etl.route import app
from tests.oracle import expected_shard, quoted
from tests.workplace import Workplace, migrate

TABLE = 'it\'s "a" таблица; --'
VIEW = quoted(TABLE)
EXTENSION = "duckdb_extension_sqlite_scanner"
needs_sqlite3 = pytest.mark.skipif(shutil.which("sqlite3") is None, reason="apt-get install sqlite3: no sqlite3 shell")
Row: TypeAlias = tuple[Any, ...]


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """A table with a name and columns that are hard to quote, in a directory that is no easier."""
    root = tmp_path / "it's \"b\" 100% 'каталог'; #?"
    root.mkdir()
    place = Workplace(root)
    place.script(
        f'CREATE TABLE {VIEW} ("the key" TEXT, _SHARD INT, "o\'""x" TEXT)',
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) "
        f"INSERT INTO {VIEW} SELECT 'key ' || i, i, iif(i % 7, 'пять ''\"', NULL) FROM n",
    )
    return place


def script(place: Workplace, *, shards: int, flag: str) -> str:
    environ = place.environ(TABLE_NAME=TABLE, SHARD_KEY="the key", NUM_SHARDS=shards, RESERVED_SHARD=shards)
    assert migrate(environ) == 0
    printed = CliRunner().invoke(app, [flag], env=environ)
    assert (printed.exit_code, printed.stderr) == (0, "")
    return printed.stdout


def rows_with_shards(place: Workplace, *, shards: int) -> list[Row]:
    with closing(sqlite3.connect(place.source)) as database:
        rows = database.execute(f"SELECT * FROM {VIEW}").fetchall()
    return sorted((*row, expected_shard(row[0].encode(), num_shards=shards, reserved_shard=shards)) for row in rows)


def shell(place: Workplace, *arguments: str, statements: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sqlite3", "-batch", "-json", *arguments],
        cwd=place.root,
        input=statements,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_sqlite3
def test_the_sqlite3_shell_has_one_view_of_eleven_shards_and_cannot_write(place: Workplace) -> None:
    (place.root / "shards.sql").write_text(script(place, shards=10, flag="--sql"))
    shown = shell(place, "-init", "shards.sql", statements=f"SELECT * FROM {VIEW};")
    assert sorted(tuple(row.values()) for row in json.loads(shown.stdout)) == rows_with_shards(place, shards=10)
    assert list(json.loads(shown.stdout)[0]) == ["the key", "_SHARD", "o'\"x", "__shard"]
    for schema in ("main", "shard_10"):
        assert "readonly" in shell(place, "-init", "shards.sql", statements=f"DELETE FROM {schema}.{VIEW};").stderr


@needs_sqlite3
def test_above_eleven_shards_the_query_runs_on_each_group(place: Workplace) -> None:
    (place.root / "query.sql").write_text(
        f"SELECT group_concat(DISTINCT __shard) AS shards, count(*) AS rows FROM {VIEW};"
    )
    shown = shell(place, statements=script(place, shards=12, flag="--sql"))
    assert shown.stderr == ""
    groups = [json.loads(line)[0] for line in shown.stdout.splitlines()]
    assert sum(group["rows"] for group in groups) == 60
    assert [sorted(map(int, group["shards"].split(","))) for group in groups] == [list(range(11)), [11]]


@pytest.mark.skipif(
    importlib.util.find_spec("duckdb") is None or importlib.util.find_spec(EXTENSION) is None,
    reason=f"pip install duckdb {EXTENSION}: no DuckDB",
)
def test_duckdb_has_one_view_of_all_shards_and_cannot_write(place: Workplace, tmp_path: Path) -> None:
    duckdb = importlib.import_module("duckdb")
    text = script(place, shards=12, flag="--duckdb")
    with duckdb.connect(config={"extension_directory": str(tmp_path / "extensions")}) as database:
        (extension,) = Path(importlib.import_module(EXTENSION).__path__[0]).rglob("*.duckdb_extension")
        database.execute(f"INSTALL '{extension}'")  # the script's own INSTALL would download it
        database.execute(text)
        assert sorted(database.execute(f"SELECT * FROM {VIEW}").fetchall()) == rows_with_shards(place, shards=12)
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            database.execute(f"DELETE FROM shard_10.{VIEW}")


def test_a_script_needs_shards_and_no_keys(tmp_path: Path) -> None:
    none = CliRunner().invoke(app, ["--sql"], env={"SHARD_DIR": str(tmp_path)})
    assert (none.exit_code, none.stdout) == (2, "")
    assert (
        none.stderr
        == f"error: {tmp_path}: expected shards of clients, found none; give the SHARD_DIR of a finished migration\n"
    )
    for arguments in ([], ["--sql", "--duckdb"], ["--sql", "key"]):
        assert "expected either keys, or --sql, or --duckdb" in CliRunner().invoke(app, arguments).output
