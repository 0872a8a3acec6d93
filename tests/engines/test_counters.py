"""How much work a load makes, counted: a second scan of the source, or a commit for each window, fails here."""

import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from etl.runtime import limits, settings
from etl.shards.shard import Shard
from etl.sources import sql
from etl.sqlite.adbc import Connection
from tests.reads import Reads
from tests.workplace import PATIENCE_SECONDS, REPOSITORY, Workplace, migrate

ROWS = 300_000
SMALL_ROWS = 20_000
SOURCE = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
    INSERT INTO clients SELECT i, 'key' || i, i % 7 FROM n"""
INDEXES = 2
FSYNCS_PER_TRANSACTION = 5
"""journal_mode=TRUNCATE, synchronous=FULL: the journal's pages, its header, the database, the journal once truncated;
and the directory, when the journal is new."""
FSYNCS_PER_FILE = 2
"""A file of the manifest, and its directory."""
STRACE = ["strace", "-f", "-c", "-U", "name,calls"]
PATIENT_RUN = """
import math, os, sys
from etl.migrate import command as migrate
from etl.runtime import limits
limits.TRANSACTION_S = math.inf
sys.exit(migrate.run(os.environ))
"""


@pytest.fixture
def environ(workplace: Workplace) -> dict[str, str]:
    """Default settings, but for paths and the key."""
    given = workplace.environ(SHARD_KEY="k", INDEX_COLUMNS="k,n")
    for name in ("NUM_SHARDS", "RESERVED_SHARD", "BATCH_SIZE", "READERS", "WRITERS"):
        del given[name]
    return given


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shard commits because a slow machine let its transaction grow old."""
    monkeypatch.setattr(limits, "TRANSACTION_S", math.inf)


def fill(place: Workplace, rows: int) -> None:
    place.script("CREATE TABLE clients (ID INTEGER PRIMARY KEY, k TEXT, n INTEGER)", SOURCE.format(rows=rows))


def read_tasks(environ: dict[str, str], rows: int) -> int:
    """Reads of a dense table of narrow rows: as many whole windows at a time as `budget` asks for."""
    given = settings.load(environ)
    window_rows = given.BATCH_SIZE * given.READERS
    return math.ceil(rows / (max(1, limits.READ_TASK_ROWS // window_rows) * window_rows))


def commits(rows_in_shard: int) -> int:
    """Commits of one shard during the load: whenever TRANSACTION_ROWS are waiting, and at the end."""
    return rows_in_shard // limits.TRANSACTION_ROWS + 1


@pytest.mark.usefixtures("patient")
def test_a_dense_table_is_read_once_in_few_calls(
    workplace: Workplace, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(workplace, ROWS)
    reads, most = Reads(monkeypatch), read_tasks(environ, ROWS)
    assert migrate(environ) == 0
    # A query a partition, with the reader's own leading rows.
    assert reads.rows(of_cells=True) == ROWS + sql.LEADING_ROWS * sum(reads.queries)
    assert len(reads.queries) == most
    # Besides them, one measures the first task, whose density is not known yet, and at most every second task has one.
    assert len(reads.tables) <= most + 1 + math.ceil(most / 2)
    # The first task's rows with one sentinel; then a row for each thousand rowids, which are measured together.
    assert reads.rows(of_cells=False) <= limits.READ_TASK_ROWS + 1 + ROWS // 1_000 + most


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("num_shards", [2, 10])
def test_a_shard_gets_one_insert_a_read_task_and_one_commit_for_many(
    workplace: Workplace, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, num_shards: int
) -> None:
    fill(workplace, ROWS)
    environ |= {"NUM_SHARDS": str(num_shards), "RESERVED_SHARD": str(num_shards)}
    statements: list[tuple[str, str]] = []  # the shard's file and the statement; appended to by several threads
    rows: list[tuple[str, int]] = []
    execute, executemany = Connection.execute, Connection.executemany

    def counted_execute(self: Connection, statement: str) -> list[tuple[Any, ...]]:
        statements.append((self.path.name, statement.split(maxsplit=1)[0]))
        return execute(self, statement)

    def counted_executemany(self: Connection, statement: str, cells: pa.Table | pa.RecordBatch) -> None:
        if "_etl_" in statement:
            statements.append((self.path.name, "ledger" if "_etl_windows" in statement else "identity"))
        else:
            statements.append((self.path.name, "rows"))
            rows.append((self.path.name, cells.num_rows))
        executemany(self, statement, cells)

    monkeypatch.setattr(Connection, "execute", counted_execute)
    monkeypatch.setattr(Connection, "executemany", counted_executemany)
    assert migrate(environ) == 0

    count = Counter(statements)
    shards = [path.name for path in workplace.shards.glob("*_shard_*.db")]
    assert len(shards) == num_shards + 1
    assert sum(number for _, number in rows) == ROWS
    for shard in shards:
        in_shard = sum(number for name, number in rows if name == shard)
        assert count[shard, "rows"] <= read_tasks(environ, ROWS)
        assert count[shard, "BEGIN"] == count[shard, "COMMIT"] <= commits(in_shard) + 1  # indexes, or their record
        assert count[shard, "ledger"] == count[shard, "COMMIT"] - 1  # all its lines in one statement
        assert count[shard, "identity"] == 1  # with the first rows
        assert count[shard, "CREATE"] == 4 + INDEXES  # the table, and three of ours
        assert count[shard, "ROLLBACK"] == 0


@pytest.mark.usefixtures("patient")
def test_many_shards_are_each_opened_and_committed_once_for_many_read_tasks(
    workplace: Workplace, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(workplace, 2_000)
    environ |= {"NUM_SHARDS": "40", "RESERVED_SHARD": "40", "BATCH_SIZE": "50", "READERS": "2"}
    monkeypatch.setattr(limits, "READ_TASK_ROWS", 100)
    monkeypatch.setattr(limits, "max_open_shards", lambda: 8)
    begun: list[str] = []
    begin = Shard.begin

    def counted_begin(self: Shard, connection: Connection) -> None:
        begun.append(self.path.name)
        begin(self, connection)

    monkeypatch.setattr(Shard, "begin", counted_begin)
    reads = Reads(monkeypatch)
    assert migrate(environ) == 0
    assert len(reads.queries) == 20
    assert set(Counter(begun).values()) == {1}
    assert len(begun) == 41


@pytest.mark.usefixtures("patient")
def test_a_run_with_nothing_new_reads_and_writes_nothing(
    workplace: Workplace, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(workplace, SMALL_ROWS)
    assert migrate(environ) == 0
    reads, executed = Reads(monkeypatch), []
    execute = Connection.execute

    def counted_execute(self: Connection, statement: str) -> list[tuple[Any, ...]]:
        executed.append(statement.split(maxsplit=1)[0])
        return execute(self, statement)

    monkeypatch.setattr(Connection, "execute", counted_execute)
    assert migrate(environ) == 0
    assert reads.tables == []
    assert set(executed) == {"PRAGMA", "SELECT"}


def fsyncs(place: Workplace, environ: dict[str, str]) -> int:
    """How many a whole run calls, in a process of its own, as strace counts them."""
    counts = place.root / "fsyncs.txt"
    outcome = subprocess.run(
        [*STRACE, "-e", "trace=fsync,fdatasync", "-o", counts, sys.executable, "-c", PATIENT_RUN],
        env={**os.environ, **environ},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert outcome.returncode == 0, outcome.stderr
    return sum(int(calls) for calls in re.findall(r"^(?:fsync|fdatasync)\s+(\d+)", counts.read_text(), re.MULTILINE))


def strace_works() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run([*STRACE, "-o", os.devnull, "true"], check=False, capture_output=True).returncode == 0


def test_fsyncs_go_with_transactions_not_with_read_tasks(workplace: Workplace, environ: dict[str, str]) -> None:
    if not strace_works():
        pytest.skip("apt-get install strace: not here, or ptrace is not permitted (a container without CAP_SYS_PTRACE)")
    fill(workplace, ROWS)
    shard_map = settings.load(environ).shard_map
    shards, load = len(shard_map.shards), commits(ROWS // shard_map.num_shards)  # SHA-256 spreads these keys evenly
    # Creation, load, each index, the planner's statistics, the change to WAL.
    transactions = shards * (1 + load + INDEXES + 1 + 1)
    manifest_files = 2  # one of the run, and the one that it is compacted to
    assert fsyncs(workplace, environ) <= FSYNCS_PER_TRANSACTION * transactions + FSYNCS_PER_FILE * manifest_files
    assert fsyncs(workplace, environ) == 0, "nothing new, nothing to make durable"
