"""A NULL in a NOT NULL column, as a schema written by hand may leave it: the row arrives as it is."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest

from etl.migrate.plan.plan import make
from etl.runtime.settings import load
from etl.sqlite.ddl import without_not_null
from tests.faults import kill, struck
from tests.verifier import Verifier
from tests.workplace import Workplace, differences, migrate, shard_files

ROWS = 300
TABLES = {
    "a text": "CREATE TABLE clients (k TEXT, c TEXT NOT NULL)",
    "the key": "CREATE TABLE clients (k TEXT NOT NULL, c TEXT)",
    "an integer": "CREATE TABLE clients (k TEXT, c INT not /* never */ null, n)",
    "of mixed cells": "CREATE TABLE clients (k TEXT, c NOT NULL)",
    "with a default that would replace it": "CREATE TABLE clients (k TEXT, c NOT NULL ON CONFLICT REPLACE DEFAULT 7)",
    "with a clause that would lose the row": "CREATE TABLE clients (k, c CONSTRAINT x NOT NULL ON CONFLICT IGNORE)",
    "beside UNIQUE and the rowid": "CREATE TABLE clients (id INTEGER PRIMARY KEY NOT NULL, k UNIQUE, c TEXT NOT NULL)",
    "a generated one": "CREATE TABLE clients (k TEXT, c TEXT, g AS (c || 'NOT NULL') NOT NULL)",
    "beside a generated one": "CREATE TABLE clients (k TEXT, c TEXT NOT NULL, g AS (c IS NOT NULL) STORED NOT NULL)",
    "of a STRICT table": "CREATE TABLE clients (k TEXT, c TEXT NOT NULL) STRICT",
}


def replacement(ddl: str) -> str:
    text = ddl.replace("'", "''")
    return f"UPDATE sqlite_schema SET sql = '{text}' WHERE name = 'clients'"


def populate(place: Workplace, ddl: str, *, nulls: Sequence[int], first: int = 1) -> None:
    """Rows of which some have a NULL in `k` or `c`, under a schema that had no NOT NULL when they came."""
    relaxed = without_not_null(ddl)
    place.script(
        relaxed.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"),
        "PRAGMA writable_schema = ON",
        replacement(relaxed),
        "PRAGMA writable_schema = RESET",
        *(
            f"INSERT INTO clients (rowid, k, c) VALUES ({rowid}, 'key {rowid}', {'NULL' if rowid in nulls else rowid})"
            for rowid in range(first, first + ROWS)
        ),
        *(["UPDATE clients SET k = NULL WHERE c IS NULL"] if "k TEXT NOT NULL" in ddl else []),
        "PRAGMA writable_schema = ON",
        replacement(ddl),
        "PRAGMA writable_schema = RESET",
    )


def assert_arrived(environ: dict[str, str], verify: Verifier) -> None:
    assert differences(environ) == []
    said = verify(environ)
    assert (said["outcome"], said["notes"]) == ("equal", [])


@pytest.mark.parametrize("ddl", TABLES.values(), ids=TABLES.keys())
def test_a_null_in_a_not_null_column_arrives_as_it_is(workplace: Workplace, verify: Verifier, ddl: str) -> None:
    populate(workplace, ddl, nulls=[7, 8, 250])
    environ = workplace.environ(INDEX_COLUMNS="k,c")
    planned = make(load(environ))
    assert (planned.exit_code, planned.trial_rows) == (0, ROWS)
    assert migrate(environ) == 0
    assert_arrived(environ, verify)
    populate(workplace, ddl, nulls=range(ROWS + 1, 3 * ROWS), first=ROWS + 1)
    assert migrate(environ) == 0
    assert_arrived(environ, verify)


def test_a_shard_keeps_its_constraint_for_the_application(workplace: Workplace) -> None:
    populate(workplace, TABLES["a text"], nulls=[7])
    environ = workplace.environ(NUM_SHARDS=1)
    assert migrate(environ) == 0
    shard = sqlite3.connect(shard_files(environ)[0])
    with closing(shard), pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        shard.execute("INSERT INTO clients VALUES ('k', NULL)")


@pytest.mark.parametrize("point", ["mid-batch", "before a commit", "between two shards' commits"])
def test_a_kill_in_the_middle_leaves_no_shard_without_its_constraint(
    workplace: Workplace, verify: Verifier, point: str
) -> None:
    populate(workplace, TABLES["a text"], nulls=range(1, ROWS, 2))
    environ = workplace.environ()
    assert struck(environ, point, 3, kill).code == -9
    for path in shard_files(environ):
        with closing(sqlite3.connect(path)) as shard:
            found = shard.execute("SELECT sql FROM sqlite_schema WHERE name = 'clients'").fetchall()
        assert found in ([], [(TABLES["a text"],)])
    assert migrate(environ) == 0
    assert_arrived(environ, verify)


def test_a_repair_writes_such_rows_too(workplace: Workplace, verify: Verifier) -> None:
    populate(workplace, TABLES["a text"], nulls=range(1, ROWS, 2))
    environ = workplace.environ(NUM_SHARDS=1, RESERVED_SHARD=0)
    assert migrate(environ) == 0
    with closing(sqlite3.connect(shard_files(environ)[0])) as shard, shard:
        shard.execute("DELETE FROM clients WHERE rowid < 50")
    assert verify(environ, repair=True)["outcome"] == "equal"
    assert_arrived(environ, verify)


def test_a_null_that_the_source_does_not_have_is_a_difference(workplace: Workplace, verify: Verifier) -> None:
    populate(workplace, TABLES["a text"], nulls=range(1, ROWS))
    environ = workplace.environ(NUM_SHARDS=1, RESERVED_SHARD=0, INDEX_COLUMNS="k")
    assert migrate(environ) == 0
    with closing(sqlite3.connect(shard_files(environ)[0])) as shard:
        shard.execute("PRAGMA writable_schema = ON")
        shard.execute(replacement(without_not_null(TABLES["a text"])))
        shard.execute("PRAGMA writable_schema = RESET")
        shard.execute(f"UPDATE clients SET c = NULL WHERE rowid = {ROWS}")
        shard.execute("PRAGMA writable_schema = ON")
        shard.execute(replacement(TABLES["a text"]))
        shard.commit()
    assert verify(environ)["differences"] == {"changed": 1}


def test_damage_behind_a_hundred_nulls_is_found(workplace: Workplace, verify: Verifier) -> None:
    populate(workplace, TABLES["a text"], nulls=range(1, ROWS))
    environ = workplace.environ(NUM_SHARDS=1, RESERVED_SHARD=0, INDEX_COLUMNS="k")
    assert migrate(environ) == 0
    with closing(sqlite3.connect(shard_files(environ)[0])) as shard:  # an index that lacks a row
        shard.execute("PRAGMA writable_schema = ON")
        shard.execute("UPDATE sqlite_schema SET sql = sql || ' WHERE k IS NOT ''key 300''' WHERE type = 'index'")
        shard.execute("PRAGMA writable_schema = RESET")
        shard.execute("REINDEX")
        shard.execute("PRAGMA writable_schema = ON")
        shard.execute("UPDATE sqlite_schema SET sql = substr(sql, 1, instr(sql, ' WHERE') - 1) WHERE type = 'index'")
        shard.commit()
    assert verify(environ)["differences"] == {"file": 1}


@pytest.mark.parametrize(
    ("ddl", "expected"),
    [
        ("CREATE TABLE t (a NOT NULL)", "CREATE TABLE t (a  NULL)"),
        ("create table t(a not--x\nnull, b)", "create table t(a --x\nnull, b)"),
        ("CREATE TABLE t (a DEFAULT 'NOT NULL', b CHECK (b IS NOT NULL))", None),
        ('CREATE TABLE t ("NOT" NULL, [a NOT] NULL, `b NOT` NULL)', None),
        ("CREATE TABLE t (a /* NOT NULL */, b AS (a NOT NULL))", None),
        ("CREATE TABLE t (a UNIQUE NULL, knot NULL, не NULL, ıNOT NULL, x$NOT NULL, 😀NOT NULL, \xa0NOT NULL)", None),
        ("CREATE TABLE t (a DEFAULT 'it''s (', b NOT NULL)", "CREATE TABLE t (a DEFAULT 'it''s (', b  NULL)"),
    ],
)
def test_only_constraints_leave_a_create_table_text(ddl: str, expected: str | None) -> None:
    assert without_not_null(ddl) == (expected or ddl)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(without_not_null(ddl))
        assert not any(row[3] for row in database.execute("PRAGMA table_xinfo(t)"))
