"""Warnings of what an application with another version of SQLite reads differently in the shards."""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest
from adbc_driver_sqlite import dbapi

from etl.migrate.plan.plan import make
from etl.runtime.settings import load
from tests.oracle import quoted
from tests.workplace import Workplace, migrate, shard_files

TABLE = (
    'CREATE TABLE clients (k TEXT, r REAL, n INT, d DECIMAL(9, 2), b BOOLEAN, name TEXT, "a""b" REAL, '
    "g TEXT AS (r || ''), u INT AS (n + 1), whenever DATETIME)"
)
ROW = "INSERT INTO clients (k, r, n, d, b, name, whenever) VALUES ('a', 0.5, 1, 7, 1, 'name', '2026-01-01')"
WRITES_15_DIGITS = sqlite3.sqlite_version_info < (3, 52)
INDEXES = [
    ("(r || '')", True),
    ("(printf('%s', r))", True),
    ("(name, CAST(r AS TEXT))", True),
    ('(lower("a""b"))', True),
    ("([r] || '')", True),
    ("(k) WHERE R || '' = '0.3'", True),
    ("(k) WHERE g > '0'", True),
    ("(g)", True),
    ("(k, g)", True),
    ("(u)", True),  # what a generated column is computed from is not examined
    ("(r)", False),
    ('(r, "a""b" DESC)', False),
    ("(lower(name))", False),
    ("(k) WHERE b = 1", False),
    ("(k) WHERE name IS NOT NULL", False),
    ("(date(whenever))", False),
    ("(n + 1)", False),
]


def warnings(place: Workplace, capfd: pytest.CaptureFixture[str], kind: str) -> list[str]:
    """Those of the plan and those on the run's console, which are the same."""
    environ = place.environ()
    found = [warning for warning in make(load(environ)).warnings if kind in warning]
    capfd.readouterr()
    assert migrate(environ) == 0
    said = [line.partition("warning=")[2] for line in capfd.readouterr().err.splitlines() if "  versions " in line]
    assert [warning for warning in said if kind in warning] == found
    return found


def test_an_index_on_text_of_reals_finds_its_rows_in_the_standard_librarys_sqlite_after_a_reindex(
    workplace: Workplace,
) -> None:
    workplace.script(TABLE, "INSERT INTO clients (k, r) VALUES ('a', 0.1 + 0.2)", "CREATE INDEX i ON clients (r || '')")
    environ = workplace.environ(NUM_SHARDS=1, RESERVED_SHARD=0)
    assert migrate(environ) == 0
    (path,) = shard_files(environ)
    query = "SELECT count(*) FROM clients INDEXED BY i WHERE r || '' = ?"
    with closing(sqlite3.connect(path)) as application:
        text = application.execute("SELECT (0.1 + 0.2) || ''").fetchone()
        assert application.execute(query, text).fetchone() == (0 if WRITES_15_DIGITS else 1,)
        application.execute("REINDEX i")
        assert application.execute(query, text).fetchone() == (1,)


def test_indexes_that_may_hold_text_of_reals_are_warned_of_by_name(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.script(
        TABLE,
        ROW,
        *(f"CREATE INDEX {quoted(index)} ON clients {index}" for index, _ in INDEXES),
    )
    (warning,) = warnings(workplace, capfd, "text made of reals")
    assert "REINDEX" in warning
    (_, named, _) = re.split("reals: |; SQLite", warning)
    assert named == ", ".join(reversed([index for index, is_warned_of in INDEXES if is_warned_of]))


def test_a_table_without_computed_indexes_is_not_warned_of(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = [index for index, is_warned_of in INDEXES if not is_warned_of]
    workplace.script(TABLE, ROW, *(f"CREATE INDEX {quoted(index)} ON clients {index}" for index in plain))
    assert warnings(workplace, capfd, "reals") == []


@pytest.mark.parametrize(
    ("ddl", "cell", "is_warned_of"),
    [
        ("c", "0.5", True),
        ("c", "'text'", False),
        ("c INT", "0.5", True),
        ("c DECIMAL(9, 2)", "5", False),
        ("c DECIMAL(9, 2)", "NULL", True),
        ("c DATE", "'2026-01-01'", False),
        ("c REAL", "NULL", True),
        ("c TEXT", "'0.5'", False),
    ],
)
def test_whether_a_column_may_have_reals_is_known_by_its_type_and_a_sample(
    *, workplace: Workplace, capfd: pytest.CaptureFixture[str], ddl: str, cell: str, is_warned_of: bool
) -> None:
    workplace.script(
        f"CREATE TABLE clients (k TEXT, {ddl}, UNIQUE (k))",
        f"INSERT INTO clients VALUES ('a', {cell})",
        "CREATE INDEX i ON clients (c || k)",
    )
    assert len(warnings(workplace, capfd, "text made of reals")) == is_warned_of


def test_the_index_of_a_unique_generated_column_is_warned_of(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.script(
        "CREATE TABLE clients (k TEXT, r REAL, g AS (r || '') UNIQUE)", "INSERT INTO clients VALUES (1, 2)"
    )
    (warning,) = warnings(workplace, capfd, "text made of reals")
    assert "sqlite_autoindex_clients_1" in warning


DEFAULTS = [
    *(("", default, True) for default in ("5.0", "-5.0", "+ 5.0", "1e3", "(5.0)", "0.0")),
    *(("", default, False) for default in ("5", "5.5", "'5.0'", "x'05'", "0x1E", "1e300", "NULL", "true")),
    *((declared, "5.0", False) for declared in ("REAL", "TEXT", "INTEGER", "NUMERIC")),
    ("BLOB", "5.0", True),
    ("TEXT", "TRUE", True),
    ("TEXT", "'true'", False),
]


def seen(place: Workplace) -> Sequence[list[str]]:
    """The column's storage class by the standard library's SQLite and by the newer one that writes shards."""
    query = "SELECT typeof(c) FROM clients"
    with closing(sqlite3.connect(place.source)) as old:
        before = [str(row[0]) for row in old.execute(query)]
    with closing(dbapi.connect(str(place.source), autocommit=True)) as new, closing(new.cursor()) as cursor:
        cursor.execute(query)
        return before, [str(row[0]) for row in cursor.fetchall()]


@pytest.mark.parametrize(("declared", "default", "is_warned_of"), DEFAULTS)
def test_an_added_column_whose_default_versions_read_differently_is_warned_of(
    *, workplace: Workplace, capfd: pytest.CaptureFixture[str], declared: str, default: str, is_warned_of: bool
) -> None:
    workplace.script(
        "CREATE TABLE clients (k TEXT)",
        "INSERT INTO clients VALUES ('a')",
        f"ALTER TABLE clients ADD COLUMN c {declared} DEFAULT {default}",
    )
    before, after = seen(workplace)
    if sqlite3.sqlite_version_info < (3, 41):
        assert (before != after) is is_warned_of
    found = warnings(workplace, capfd, "default")
    assert len(found) == is_warned_of
    assert all("different types: c;" in warning for warning in found)
