"""A table and its columns may have the names that our SQL uses, and still mean the columns."""

import ast
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import reduce
from operator import or_
from pathlib import Path

import polars as pl
import pytest

import etl
from etl.report import data
from tests.commands import ran
from tests.oracle import quoted
from tests.verifier import Verifier
from tests.workplace import REPOSITORY, Workplace, differences, migrate, shard_files

Case = Callable[[str], str]

ROWS = 200
CELLS = (None, "text", 2**53 + 1, 0.5, b"\xff")
ROWID_NAMES = ("rowid", "_rowid_", "oid")
_KEYWORDS = re.compile(r"\b(SELECT|FROM|WHERE|WITH|AS|VALUES|ORDER BY)\b")
_ALIAS = re.compile(r"\bAS ([a-z]\w*)|\b([a-z]\w*)\(\w+\) AS (?:MATERIALIZED )?\(|\b([a-z]\w*)(?=\.\w)|\b(pragma_\w+)")


def sql_texts() -> Iterator[str]:
    """The string literals of the package that are SQL; what an f-string puts in is left out, and so are docstrings."""
    for path in Path(REPOSITORY, "etl").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in {*ast.walk(tree)} - docstrings:
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
            if _KEYWORDS.search(text):
                yield text


WORDS = sorted({word.lower() for text in sql_texts() for word in re.findall(r"[A-Za-z_]\w*", text)})
ALIASES = sorted({name.lower() for text in sql_texts() for names in _ALIAS.findall(text) for name in names if name})
RESULT_COLUMNS = [f"c{position}{part}" for position in range(5) for part in ("", "_tag", "_integer", "_real", "_bytes")]
COLUMNS = list(dict.fromkeys([*ROWID_NAMES, *WORDS, *ALIASES, *RESULT_COLUMNS]))


def cell(rowid: int, position: int) -> object:
    """Later rows have, in every second column, cells that do not fit it: these columns are widened on the way."""
    return CELLS[(rowid + position) % len(CELLS)] if rowid > ROWS and position % 2 else str(rowid + position)


def fill(place: Workplace, table: str, columns: list[str], first: int) -> None:
    marks = ", ".join("?" * (len(columns) + 1))
    with closing(sqlite3.connect(place.source)) as database, database:
        database.executemany(
            f"INSERT INTO main.{quoted(table)} VALUES ({marks})",
            ((rowid, *(cell(rowid, i) for i in range(len(columns)))) for rowid in range(first, first + ROWS)),
        )


def table_of(
    place: Workplace, table: str, names: Sequence[str], *, rowid: str = "id", case: Case = str.lower
) -> tuple[dict[str, str], list[str]]:
    """A source whose columns have these names, and the settings of a run."""
    free = [name for name in dict.fromkeys(names) if name != rowid]
    columns = [case(name) for name in free]
    types = ("TEXT", "INTEGER", "REAL", "BLOB", "")
    declared = ", ".join(f"{quoted(name)} {types[i % len(types)]}" for i, name in enumerate(columns))
    name = case(table)
    place.script(f"CREATE TABLE main.{quoted(name)} ({quoted(rowid)} INTEGER PRIMARY KEY, {declared})")
    place.script(f"CREATE INDEX main.own ON {quoted(name)} ({quoted(columns[-1])}, {quoted(columns[0])})")
    fill(place, name, columns, 1)
    environ = place.environ(TABLE_NAME=name, SHARD_KEY=columns[5], INDEX_COLUMNS=",".join(columns[5:9]), BATCH_SIZE=60)
    return environ, columns


def spoil(environ: dict[str, str], rowid: str, column: str) -> None:
    """Deletes a row and changes another one in one shard."""
    path, table, key = shard_files(environ)[0], f"main.{quoted(environ['TABLE_NAME'])}", quoted(rowid)
    with closing(sqlite3.connect(path)) as database, database:
        first, second = database.execute(f"SELECT t.{key} FROM {table} AS t ORDER BY 1 LIMIT 2").fetchall()
        database.execute(f"DELETE FROM {table} AS t WHERE t.{key} = ?", first)
        database.execute(f"UPDATE {table} AS t SET {quoted(column)} = 'spoilt' WHERE t.{key} = ?", second)


def test_the_aliases_in_our_sql_are_among_the_names() -> None:
    assert {"t", "point", "edge", "before", "ends", "stretch", "first", "sentinel"} <= {*COLUMNS}


@pytest.mark.parametrize("name", ["main", "temp", "c0", "sentinel", *ALIASES])
def test_a_table_and_its_rowid_may_have_the_name_of_an_alias(workplace: Workplace, verify: Verifier, name: str) -> None:
    environ, columns = table_of(workplace, name, [*ROWID_NAMES, *ALIASES], rowid=name)
    assert migrate(environ) == 0
    fill(workplace, name, columns, ROWS + 1)
    assert migrate(environ) == 0
    assert differences(environ) == []
    assert verify(environ)["differences"] == {}
    spoil(environ, name, columns[-1])
    assert verify(environ)["differences"] == {"missing": 1, "changed": 1, "ledger": 1}
    assert verify(environ, repair=True)["outcome"] == "equal"
    assert differences(environ) == []


@pytest.mark.parametrize("case", [str.lower, str.upper], ids=["lower case", "upper case"])
def test_every_command_takes_columns_for_columns(workplace: Workplace, case: Case) -> None:
    environ, columns = table_of(workplace, "grid", COLUMNS, case=case)
    plan = ran("etl.migrate", environ, "--plan", "--json")
    assert (plan.code, json.loads(plan.out)["rows"]) == (0, {"rows": ROWS, "is_exact": True}), plan.err
    assert migrate(environ) == 0
    fill(workplace, environ["TABLE_NAME"], columns, ROWS + 1)
    status = ran("etl.status", environ, "--json")
    assert (status.code, json.loads(status.out)["lag_rows"]) == (0, ROWS), status.err
    assert migrate(environ) == 0
    assert int(data.inspect(workplace.shards).rows) == 2 * ROWS
    scanned = etl.scan_shards(workplace.shards)
    assert scanned.collect().height == 2 * ROWS
    dtypes = scanned.collect_schema()
    texts = [name for name in columns if dtypes[name] == pl.String]
    numbers = [name for name in columns if dtypes[name] == pl.Int64]
    assert min(len(texts), len(numbers)) > len(COLUMNS) / 20
    predicate = reduce(or_, [*(pl.col(name) == "170" for name in texts), *(pl.col(name) < 9 for name in numbers)])
    where = " OR ".join(
        [*(f"t.{quoted(name)} = '170'" for name in texts), *(f"t.{quoted(name)} < 9" for name in numbers)]
    )
    with closing(sqlite3.connect(workplace.source)) as database:
        query = f"SELECT count(*) FROM main.{quoted(environ['TABLE_NAME'])} AS t WHERE {where}"
        (expected,) = database.execute(query).fetchone()
    assert 0 < expected < 2 * ROWS
    assert scanned.filter(predicate).collect().height == expected
