"""The source of the demo: `clients`, 12 columns of invented people, the same rows every time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from rich.table import Table as RichTable

from etl.core.errors import Refused
from etl.status.status_file import RunStatus

ROWS = 200_000
_ROWS_PER_STATEMENT = 500_000

_TABLE = """CREATE TABLE clients (
    ID INTEGER PRIMARY KEY,
    SURNAME TEXT,
    GIVEN_NAME TEXT,
    BIRTH_DATE DATE,
    MOBILE_NUMBER TEXT,
    INN TEXT,
    SNILS TEXT,
    EMAIL TEXT,
    REGION INTEGER,
    BALANCE REAL,
    RATING DECIMAL(3, 1),
    ADDRESS TEXT
)"""

# Two multiplicative generators give each row its pseudo-random numbers a and b.
_INSERT = """
WITH RECURSIVE row(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM row WHERE i < :last),
dice AS (SELECT i, (i * 2246822519) % 999999937 AS a, (i * 60493 + 777) % 999983 AS b FROM row)
INSERT INTO clients SELECT
    i,
    CASE a % 7 WHEN 0 THEN 'Aldermoor' WHEN 1 THEN 'Brackwater' WHEN 2 THEN 'Берёзкина' WHEN 3 THEN 'Дубравин'
        WHEN 4 THEN 'Fennimore' WHEN 5 THEN 'Quillfeather' ELSE 'Яснополев' END,
    CASE b % 5 WHEN 0 THEN 'Ada' WHEN 1 THEN 'Борис' WHEN 2 THEN 'Clio' WHEN 3 THEN 'Demid' ELSE 'Ева' END,
    date('1945-06-01', '+' || (b % 21000) || ' days'),
    CASE a % 100 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN '   ' ELSE printf('000%08d', (a * 17 + b) % 100000000) END,
    CASE WHEN b % 12 = 0 THEN NULL ELSE printf('00%010d', a * 9 % 10000000000) END,
    printf('000-%03d-%03d %02d', a % 1000, b % 1000, (a + b) % 100),
    'client' || b || '@example.com',
    a % 89 + 1,
    (a % 1000000) / 100.0,
    CASE WHEN a % 2 THEN a % 10 ELSE (b % 100) / 10.0 END,
    (b % 300 + 1) || ' Sample Street, flat ' || (a % 400 + 1)
FROM dice
"""


def make_source(path: Path, rows: int) -> None:
    """Creates the file with rows 1 to `rows`, or adds those that are missing; it deletes none."""
    if rows < 1:
        raise Refused(f"--demo {rows}: expected a number of rows from 1 up")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as database:
            found = dict(database.execute("SELECT name, sql FROM sqlite_schema"))
            if found and found.get("clients") != _TABLE:
                raise Refused(f"{path}: expected the demo's own file, found another database; move it away")
            if not found:
                database.execute(_TABLE)
            last = database.execute("SELECT ifnull(max(ID), 0) FROM clients").fetchone()[0]
            for first in range(last + 1, rows + 1, _ROWS_PER_STATEMENT):
                with database:
                    database.execute(_INSERT, {"first": first, "last": min(first + _ROWS_PER_STATEMENT - 1, rows)})
    except OSError as error:
        raise Refused(
            f"{path.parent}: cannot be written ({error.strerror}); run the demo in a directory of your own"
        ) from None
    except sqlite3.Error as error:
        raise Refused(f"{path}: expected the demo's own file ({error}); move it away") from error


def table_of(status: RunStatus) -> RichTable:
    """The shards, as the demo prints them."""
    table = RichTable(title="shards")
    for name in ("shard", "rows", "MB"):
        table.add_column(name, justify="right")
    for shard in status.shards:
        table.add_row(str(shard.shard), f"{shard.rows:,}", f"{shard.bytes / 1e6:,.1f}")
    return table
