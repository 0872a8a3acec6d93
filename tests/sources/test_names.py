"""Types and names compared as SQLite compares them: letter case counts, except that of ASCII letters."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core.model import Affinity
from etl.sources import schema
from tests.oracle import quoted
from tests.workplace import Workplace, differences, migrate

LOOKALIKES = [
    "ﬂoat",
    "ınteger",
    "ﬁnt",
    "İNT",
    "POİNT",
    "BLO\u212a",
    "\u212aLOB",
    "ſtring text",
    "TEXṪ",
    "ＲＥＡＬ",
    "ßINT",
]
PIECES = [
    "int",
    "INT",
    "char",
    "Clob",
    "tExt",
    "blob",
    "real",
    "floa",
    "DOUB",
    "ﬂ",
    "oa",
    "ı",
    "İ",
    "ſ",
    "\u212a",
    "n",
    "t",
]
STORED = {  # what a column of each affinity makes of '1', 1.5 and 1
    ("integer", "real", "integer"): {Affinity.INTEGER, Affinity.NUMERIC},
    ("text", "text", "text"): {Affinity.TEXT},
    ("text", "real", "integer"): {Affinity.BLOB},
    ("real", "real", "real"): {Affinity.REAL},
}

declared_types = st.sampled_from(LOOKALIKES) | st.lists(st.sampled_from([*PIECES, " "]), max_size=6).map(
    lambda pieces: "".join(pieces).strip()
)


def stored(declared: str) -> set[Affinity]:
    """The affinities that explain what SQLite itself stores in a column of the declared type."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE TABLE t (c {quoted(declared) if declared.strip() else ''})")
        classes = []
        for cell in ("1", 1.5, 1):
            database.execute("INSERT INTO t VALUES (?)", (cell,))
            classes.append(database.execute("SELECT typeof(c) FROM t ORDER BY rowid DESC LIMIT 1").fetchone()[0])
    return STORED[tuple(classes)]


@given(declared_types)
def test_a_column_has_the_affinity_that_sqlite_itself_gives_it(declared: str) -> None:
    assert schema.affinity(declared, strict=False) in stored(declared)


@pytest.mark.parametrize("declared", LOOKALIKES)
def test_a_type_that_only_looks_like_a_known_one_changes_no_cell(workplace: Workplace, declared: str) -> None:
    workplace.script(
        f"CREATE TABLE clients (k TEXT, c {quoted(declared)})",
        "INSERT INTO clients VALUES ('a', 9007199254740993), ('b', 0.5), ('c', NULL)",
    )
    assert migrate(workplace.environ()) == 0
    assert differences(workplace.environ()) == []


@pytest.mark.parametrize("declared", ["ınteger", "INTEɢER", "İNTEGER"])
def test_a_primary_key_of_such_a_type_is_not_the_rowid(workplace: Workplace, declared: str) -> None:
    workplace.script(
        f"CREATE TABLE clients (k TEXT, id {quoted(declared)} PRIMARY KEY)",
        "INSERT INTO clients (rowid, k, id) VALUES (3, 'a', 70), (5, 'b', 50), (8, 'c', NULL)",
    )
    assert migrate(workplace.environ()) == 0
    assert differences(workplace.environ()) == []


NAMES = ["k", "K", "s", "ſ", "i", "ı", "İ", "fl", "ﬂ", "_rowidſ_"]


@pytest.mark.parametrize("key", NAMES)
def test_names_that_differ_beyond_ascii_are_different_names(workplace: Workplace, key: str) -> None:
    workplace.script(
        f'CREATE TABLE "sqlıte_K" ({", ".join(map(quoted, NAMES))})',
        *(
            f'INSERT INTO "sqlıte_K" VALUES ({", ".join(str(row * 100 + n) for n in range(len(NAMES)))})'
            for row in range(9)
        ),
    )
    environ = workplace.environ(
        TABLE_NAME="sqlıte_K", SHARD_KEY=key.upper() if key.isascii() else key, INDEX_COLUMNS=key
    )
    assert migrate(environ) == 0
    assert differences(environ | {"SHARD_KEY": key}) == []
