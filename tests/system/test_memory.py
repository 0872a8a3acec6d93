"""Rows of megabytes, dense or sparse, are read in parts and within the memory budget; so are reads that panic."""

import os
import random
import re
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import connectorx
import pytest

from etl.runtime import limits
from etl.sources import sql
from tests.completeness import faults_of
from tests.workplace import REPOSITORY, Workplace, differences, error_line, migrate

MOST_MB = 700
MOST_MB_OF_A_VERIFICATION = 500
SMALL_ROWS = 120_000
HEAVY_BYTES = 6_000_000
FIRST_READ_ROWS = limits.READ_TASK_ROWS
"""So many rows are weighed one by one; after them, dense ones are sampled."""

# Measured from a process of its own: a child of this one would inherit this one's own peak.
MEASURE = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, "-m", *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(pid, 0)
print("peak", usage.ru_maxrss // 1024, "exit", os.waitstatus_to_exitcode(status))
"""


def measured(environ: dict[str, str], *command: str) -> tuple[int, int]:
    """Peak resident megabytes and exit code of a command, of a whole migration unless it is given."""
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, *(command or ["etl.migrate"])],
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    ).stdout
    found = re.search(r"^peak (\d+) exit (\d+)$", out, re.MULTILINE)
    assert found, out
    return int(found[1]), int(found[2])


def populate(place: Workplace, heavy: range, *, step: int) -> None:
    """Small rows with heavy ones among them, at every step-th rowid from 1 on."""
    dice = random.Random(7)
    block = dice.randbytes(1000)
    rows = (
        (1 + i * step, f"key {i}", block * (HEAVY_BYTES // len(block)) if i in heavy else f"note {i}")
        for i in range(SMALL_ROWS)
    )
    with closing(sqlite3.connect(place.source)) as database, database:
        database.execute("CREATE TABLE clients (k TEXT, cell)")
        database.executemany("INSERT INTO clients (rowid, k, cell) VALUES (?, ?, ?)", rows)


HEAVY = {
    "among the first, dense": (range(100, 200), 1),
    "among the first, sparse": (range(100, 200), 1_000_003),
    "in the middle, dense": (range(FIRST_READ_ROWS + 1_000, FIRST_READ_ROWS + 1_100), 1),
    "in the middle, sparse": (range(FIRST_READ_ROWS + 1_000, FIRST_READ_ROWS + 1_100), 1_000_003),
    "spread out, dense": (range(0, SMALL_ROWS, SMALL_ROWS // 100), 1),
}
UNSAMPLED = range(FIRST_READ_ROWS + 1, FIRST_READ_ROWS + 92)


@pytest.mark.parametrize(
    ("heavy", "step"),
    [
        *(pytest.param(*case, id=name) for name, case in HEAVY.items()),
        pytest.param(UNSAMPLED, 1, id="a cluster after the first read, dense"),
    ],
)
def test_rows_of_megabytes_stay_within_the_memory_budget(workplace: Workplace, heavy: range, step: int) -> None:
    populate(workplace, heavy, step=step)
    environ = workplace.environ(BATCH_SIZE=6000, READERS=6)
    peak_mb, code = measured(environ)
    assert code == 0
    assert peak_mb < MOST_MB
    assert faults_of(environ) == []


# Tables (columns beside the key, and each row's cells by its number) that a guess from a sample would get wrong.
BLOCK = random.Random(7).randbytes(1_000)
MIXED, WIDE = 450, 1_999
SHAPES: dict[str, tuple[int, int, Callable[[int], tuple[object, ...]]]] = {
    "light rows, then light and heavy by turns": (
        1,
        126_000,
        lambda i: (BLOCK * 60 if i > FIRST_READ_ROWS + 6_000 and i % 2 else "n",),
    ),
    "half of the rows heavy, in step with every 32nd rowid": (
        1,
        136_000,
        lambda i: (BLOCK * 30 if i > FIRST_READ_ROWS and (i - FIRST_READ_ROWS - 1) % 2 else "n",),
    ),
    "columns of mixed storage classes": (
        MIXED,
        12_000,
        lambda i: tuple(i * j if (i + j) % 2 else f"t{i}" for j in range(MIXED)),
    ),
    "2,000 columns of mixed storage classes": (
        WIDE,
        1_200,
        lambda i: tuple(i * j if (i + j) % 2 else f"t{i}" for j in range(WIDE)),
    ),
    "rows of 5 to 50 MB": (1, 16, lambda i: (BLOCK * (5_000 + i * 7_919 % 45_000),)),
}


@pytest.mark.parametrize(("columns", "rows", "cells"), SHAPES.values(), ids=SHAPES.keys())
def test_no_order_of_rows_takes_more_than_the_memory_budget(
    workplace: Workplace, columns: int, rows: int, cells: Callable[[int], tuple[object, ...]]
) -> None:
    with closing(sqlite3.connect(workplace.source)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(f"CREATE TABLE clients (k TEXT, {', '.join(f'c{number}' for number in range(columns))})")
        database.executemany(
            f"INSERT INTO clients VALUES ({', '.join('?' * (columns + 1))})",
            ((f"key {i}", *cells(i)) for i in range(1, rows + 1)),
        )
    environ = workplace.environ(BATCH_SIZE=6_000, READERS=6)
    peak_mb, code = measured(environ)
    assert code == 0
    assert peak_mb < MOST_MB
    assert differences(environ) == []
    peak_mb, code = measured(environ, "etl.verify", "--quick")
    assert code == 0
    assert peak_mb < MOST_MB_OF_A_VERIFICATION


def test_one_huge_row_takes_what_the_readme_says(workplace: Workplace) -> None:
    """200 MB and seven times the row's bytes."""
    workplace.populate(100)
    workplace.script("UPDATE clients SET note = zeroblob(100000000) WHERE rowid = 50")
    environ = workplace.environ()
    peak_mb, code = measured(environ)
    assert code == 0
    assert peak_mb < 200 + 7 * 100
    assert differences(environ) == []


def test_a_wide_window_of_ordinary_rows_stays_within_the_memory_budget(workplace: Workplace) -> None:
    columns = ", ".join(f"c{number} TEXT" for number in range(10))
    values = ", ".join("printf('%024d', i * 7919 % 1000003)" for _ in range(10))
    workplace.script(
        f"CREATE TABLE clients (k TEXT, n INTEGER, {columns})",
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 450000) "
        f"INSERT INTO clients SELECT 'key ' || i, i, {values} FROM r",
    )
    peak_mb, code = measured(workplace.environ(BATCH_SIZE=20_000, READERS=10))
    assert code == 0
    assert peak_mb < MOST_MB


class PanicException(BaseException):
    """What connectorx raises past 2 GiB of text in one read."""


def panicking(real: Any, most_rows: int) -> Any:
    """read_sql that can hold so many rows; sizes, and the leading rows of each query, always fit."""

    def read_sql(uri: str, queries: Sequence[str], **options: Any) -> Any:
        table = real(uri, queries, **options)
        if "octet_length" not in queries[0] and len(table) - sql.LEADING_ROWS * len(queries) > most_rows:
            raise PanicException("byte array offset overflow")
        return table

    return read_sql


@pytest.mark.parametrize("most_rows", [2, 40])
@pytest.mark.parametrize("rowid", ["i", "i * 1000003", "-i", "i * 36893488147419103 - 9223372036854775807"])
def test_a_read_that_panics_is_made_in_parts(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, rowid: str, most_rows: int
) -> None:
    monkeypatch.setattr(connectorx, "read_sql", panicking(connectorx.read_sql, most_rows))
    workplace.script(
        "CREATE TABLE clients (k TEXT, c INTEGER)",
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 250) "
        "INSERT INTO clients (rowid, k, c) "
        f"SELECT {rowid}, 'key ' || i, CASE i % 50 WHEN 1 THEN 'text' ELSE i END FROM r",
    )
    environ = workplace.environ()
    assert migrate(environ) == 0
    assert differences(environ) == []


def test_a_row_that_always_panics_ends_the_run_in_one_line(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connectorx, "read_sql", panicking(connectorx.read_sql, 0))
    workplace.populate(300)
    assert migrate(workplace.environ()) == 1
    assert re.search(r"the row \d+ is too big", error_line(capfd.readouterr().err))
    monkeypatch.undo()
    assert migrate(workplace.environ()) == 0
    assert faults_of(workplace.environ()) == []


@pytest.mark.parametrize(("soft", "least"), [(64, 8), (256, 52), (1024, 308), (1_000_000, 1332)])
def test_the_limit_of_open_files_bounds_the_open_shards(monkeypatch: pytest.MonkeyPatch, soft: int, least: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert limits.max_open_shards() == least
    assert soft < 100 or limits.max_open_shards() * 3 < soft


@pytest.mark.parametrize("shards", [1, 2, 11, 100, 308])
def test_the_page_caches_share_one_budget(shards: int) -> None:
    assert limits.cache_kib(shards) * 1024 * shards <= limits.CACHE_BYTES
