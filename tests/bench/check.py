"""Checks that shards have the source's rows: counts them, and compares a sample. Shares no code with `etl`."""

import hashlib
import random
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.sources import KEY_POSITION, Source

SAMPLED_ROWS = 200
_SHARD_FILE = re.compile(r"(\d+)\.db$")
"""`clients_shard_07.db`, or any other name that ends in the shard's number."""


class Wrong(Exception):
    """The shards do not have the source's rows."""


def route(key: str | None, *, num_shards: int) -> int:
    """The shard of one key; keyless rows go to the shard after the last."""
    if key is None or not key.strip():
        return num_shards
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % num_shards


def check(source: Source, directory: Path, *, num_shards: int, seed: int) -> tuple[int, int]:
    """Rows counted and cells compared; raises Wrong, which names rowids and columns, not cells."""
    shards = {int(match[1]): path for path in directory.glob("*.db") if (match := _SHARD_FILE.search(path.name))}
    if sorted(shards) != list(range(num_shards + 1)):
        raise Wrong(f"{directory}: expected the shards 0 to {num_shards}, found {len(shards)} files")
    counts = {number: _one(path, "SELECT count(*) FROM clients") for number, path in shards.items()}
    rows = sum(counts.values())
    if rows != source.rows:
        raise Wrong(f"{directory}: expected {source.rows} rows, found {rows}")
    rowids = random.Random(seed).sample(range(1, source.rows + 1), min(SAMPLED_ROWS, source.rows))
    expected = _rows(source.path, rowids)
    by_shard: defaultdict[int, list[int]] = defaultdict(list)
    for rowid, row in expected.items():
        by_shard[route(row[KEY_POSITION], num_shards=num_shards)].append(rowid)
    cells = 0
    for number, wanted in by_shard.items():
        found = _rows(shards[number], wanted)
        for rowid in wanted:
            # 5 == 5.0, but their reprs differ.
            if repr(found.get(rowid)) != repr(expected[rowid]):
                raise Wrong(f"{shards[number]}: row {rowid} is missing or not as it is in {source.path}")
            cells += len(expected[rowid])
    return rows, cells


def _one(path: Path, statement: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute(statement).fetchone()[0])


def _rows(path: Path, rowids: list[int]) -> dict[int, tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        found = (database.execute("SELECT * FROM clients WHERE rowid = ?", (rowid,)).fetchone() for rowid in rowids)
        return {row[0]: row for row in found if row is not None}
