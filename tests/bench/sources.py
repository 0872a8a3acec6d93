"""The benchmark's source: `clients`, 12 columns of invented people, the same rows every time."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

KEY = "MOBILE_NUMBER"
KEY_POSITION = 7
INDEXED = ("INN", "MOBILE_NUMBER", "SNILS")

_FORMAT = 1
"""Part of the cached files' names. Increase it when you change the rows."""
_ROWS_PER_STATEMENT = 500_000


class Variant(StrEnum):
    """`strict`: every cell has its column's declared type. `variant`: 3 of the 12 columns mix storage classes."""

    STRICT = "strict"
    VARIANT = "variant"


_TABLE = """CREATE TABLE IF NOT EXISTS clients (
    ID INTEGER PRIMARY KEY,
    LAST_NAME TEXT,
    FIRST_NAME TEXT,
    MIDDLE_NAME TEXT,
    BIRTH_DATE {birth_date},
    INN TEXT,
    SNILS TEXT,
    MOBILE_NUMBER TEXT,
    EMAIL TEXT,
    REGION INTEGER,
    BALANCE {balance},
    ADDRESS TEXT
)"""

# Two multiplicative generators give each row its pseudo-random numbers a and b. The key is NULL in 3 rows of 200 and
# empty in 3 more. No country has the code 000, so no key is a real telephone number.
_INSERT = """
WITH RECURSIVE row(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM row WHERE i < :last),
dice AS (SELECT i, (i * 2246822519) % 999999937 AS a, (i * 60493 + 777) % 999983 AS b FROM row)
INSERT INTO clients SELECT
    i,
    CASE a % 8 WHEN 0 THEN 'Берёзкина' WHEN 1 THEN 'Дубравин' WHEN 2 THEN 'Липовцева' WHEN 3 THEN 'Осинкин'
        WHEN 4 THEN 'Кедровская' WHEN 5 THEN 'Ольхин' WHEN 6 THEN 'Рябинова' ELSE 'Яснополев' END,
    CASE b % 5 WHEN 0 THEN 'Глафира' WHEN 1 THEN 'Борис' WHEN 2 THEN 'Евдоким' WHEN 3 THEN 'Демид' ELSE 'Ева' END,
    CASE a % 3 WHEN 0 THEN 'Лукич' WHEN 1 THEN 'Фоминична' ELSE 'Макарович' END,
    {birth_date},
    CASE WHEN a % 10 = 0 THEN NULL ELSE printf('00%010d', (a * 41 + b) % 10000000000) END,
    printf('000%08d', (a * 89 + b * 17) % 100000000),
    CASE a % 200 WHEN 0 THEN NULL WHEN 1 THEN NULL WHEN 2 THEN NULL WHEN 3 THEN '' WHEN 4 THEN '' WHEN 5 THEN ''
        ELSE printf('0009%07d', (a * 29 + b) % 10000000) END,
    'person' || b || '@example.org',
    {region},
    {balance},
    'г. Вымыслов, ул. Примерная, д. ' || (a % 90 + 1) || ', кв. ' || (b % 500)
FROM dice"""

_STRICT_CELLS = {
    "birth_date": "date('1948-01-01', '+' || (b % 21000) || ' days')",
    "region": "a % 90 + 1",
    "balance": "(a % 10000000) / 100.0",
}
_VARIANT_CELLS = {
    "birth_date": "CASE a % 4 WHEN 0 THEN 1948 + b % 58 ELSE date('1948-01-01', '+' || (b % 21000) || ' days') END",
    "region": "CASE a % 50 WHEN 0 THEN 'abroad' ELSE a % 90 + 1 END",
    "balance": "CASE a % 4 WHEN 0 THEN a % 100000 ELSE (a % 10000000) / 100.0 END",
}
_TYPES = {
    Variant.STRICT: {"birth_date": "TEXT", "balance": "REAL"},
    Variant.VARIANT: {"birth_date": "", "balance": "DECIMAL(12, 2)"},
}


@dataclass(frozen=True)
class Source:
    """One source file, with rowids 1 to its number of rows."""

    path: Path
    variant: Variant

    @cached_property
    def rows(self) -> int:
        """The table's rows, counted by a scan, once."""
        with closing(sqlite3.connect(self.path)) as database:
            return int(database.execute("SELECT count(*) FROM clients").fetchone()[0])

    def warm(self) -> None:
        """Reads the file, so that as much of it as possible is in the page cache."""
        with self.path.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass

    def append(self, rows: int) -> "Source":
        """Adds that many rows to the file; returns the source with them."""
        _fill(self.path, self.variant, first=self.rows + 1, last=self.rows + rows)
        return Source(self.path, self.variant)


def cache_dir() -> Path:
    """Where sources are kept and runs are made: outside the working tree."""
    directory = os.environ.get("SHARD_MIGRATE_BENCH_DIR")
    return Path(directory).absolute() if directory else Path.home() / ".cache" / "shard-migrate-bench"


def made(rows: int, variant: Variant) -> Source:
    """The source of that many rows: the cached file, or one made now, under a temporary name until it is complete."""
    path = cache_dir() / f"clients-{variant}-{rows}-v{_FORMAT}.db"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            _fill(unfinished, variant, first=1, last=rows)
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    source = Source(path, variant)
    if source.rows != rows:
        raise SystemExit(f"{path}: expected {rows} rows, found {source.rows}; remove the file and run again")
    return source


def _fill(path: Path, variant: Variant, *, first: int, last: int) -> None:
    insert = _INSERT.format(**(_STRICT_CELLS if variant is Variant.STRICT else _VARIANT_CELLS))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")  # a file that was not completed is thrown away
        database.execute("PRAGMA synchronous = OFF")
        database.execute(_TABLE.format(**_TYPES[variant]))
        for start in range(first, last + 1, _ROWS_PER_STATEMENT):
            database.execute(insert, {"first": start, "last": min(start + _ROWS_PER_STATEMENT - 1, last)})
