"""python -m tests.bench.peers NAME SOURCE DIR: the same load in other ways, each in its own process.

Like this program, they write `clients_shard_NN.db` and then create the three indexes. SHA-256 decides the shard of a
row; rows without a key go to the shard after the last.
"""

import argparse
import importlib
import importlib.util
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.check import route
from tests.bench.sources import INDEXED, KEY, KEY_POSITION

FETCHED_ROWS = 10_000


def python(source: Path, directory: Path, num_shards: int) -> None:
    """The simple way: the standard library only, `fetchmany` and `executemany`, a commit for each batch."""
    shards = [sqlite3.connect(path) for path in _create(source, directory, num_shards)]
    with closing(sqlite3.connect(source)) as database:
        rows = database.execute("SELECT * FROM clients ORDER BY rowid")
        insert = f"INSERT INTO clients VALUES ({', '.join('?' * len(rows.description))})"
        while batch := rows.fetchmany(FETCHED_ROWS):
            by_shard: list[list[tuple[Any, ...]]] = [[] for _ in shards]
            for row in batch:
                by_shard[route(row[KEY_POSITION], num_shards=num_shards)].append(row)
            for shard, shard_rows in zip(shards, by_shard, strict=True):
                shard.executemany(insert, shard_rows)
                shard.commit()
    for shard in shards:
        _index(shard)
        shard.close()


def duckdb(source: Path, directory: Path, num_shards: int) -> None:
    """DuckDB reads all rows in parallel into its own table, then fills as many shards at a time as it has cores.

    Eleven filtered scans of the source instead took seven times as long. DuckDB 1.5 could not create an index in an
    attached SQLite file by `CREATE INDEX … ON shard.clients`, so SQLite itself does it, also on all cores.
    """
    paths = _create(source, directory, num_shards)
    database = importlib.import_module("duckdb").connect()
    _load_extension(database)
    database.execute(f"ATTACH '{source}' AS source (TYPE sqlite, READ_ONLY)")
    for number, path in enumerate(paths):
        database.execute(f"ATTACH '{path}' AS shard_{number} (TYPE sqlite)")
    # The 256-bit digest modulo the number of shards, by its eight 32-bit limbs: 16^(56 - 8i) is the limb's weight.
    limbs = (f"('0x' || substr(digest, {1 + 8 * i}, 8))::UBIGINT * {16 ** (56 - 8 * i) % num_shards}" for i in range(8))
    database.execute(
        f"CREATE TABLE staged AS SELECT * EXCLUDE (digest), CASE WHEN trim(coalesce({KEY}, '')) = '' "
        f"THEN {num_shards} ELSE ({' + '.join(limbs)}) % {num_shards} END AS shard "
        f"FROM (SELECT *, sha256({KEY}) AS digest FROM source.clients)"
    )

    def fill(number: int) -> None:
        with closing(database.cursor()) as cursor:  # a transaction of DuckDB can write only one attached file
            cursor.execute(
                f"INSERT INTO shard_{number}.clients SELECT * EXCLUDE (shard) FROM staged WHERE shard = {number}"
            )

    def index(path: Path) -> None:
        with closing(sqlite3.connect(path)) as shard:
            _index(shard)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(len(paths))))
        database.close()
        list(pool.map(index, paths))


PEERS = {"python": python, "duckdb": duckdb}


def why_not(name: str) -> str:
    """Why this peer cannot run here; empty if it can."""
    if name != "duckdb":
        return ""
    if importlib.util.find_spec("duckdb") is None:
        return "not installed"
    module = importlib.import_module("duckdb")
    try:
        with module.connect() as database:
            _load_extension(database)
    except module.Error as error:
        return f"its SQLite extension cannot be loaded ({str(error).splitlines()[0]})"
    return ""


def _load_extension(database: Any) -> None:
    """From the package duckdb-extension-sqlite-scanner if it is installed; otherwise DuckDB downloads it."""
    packaged = importlib.util.find_spec("duckdb_extension_sqlite_scanner")
    if packaged is None or packaged.origin is None:
        database.execute("INSTALL sqlite")
        database.execute("LOAD sqlite")
        return
    version = database.execute("PRAGMA version").fetchone()[0]
    file = Path(packaged.origin).parent / "extensions" / version / "sqlite_scanner.duckdb_extension"
    database.execute(f"LOAD '{file}'")


def _create(source: Path, directory: Path, num_shards: int) -> list[Path]:
    """The shard files with the source's table, empty."""
    with closing(sqlite3.connect(source)) as database:
        ddl = database.execute("SELECT sql FROM sqlite_schema WHERE name = 'clients'").fetchone()[0]
    paths = [directory / f"clients_shard_{number:02d}.db" for number in range(num_shards + 1)]
    for path in paths:
        with closing(sqlite3.connect(path)) as shard:
            shard.execute(ddl)
    return paths


def _index(shard: sqlite3.Connection) -> None:
    for column in INDEXED:
        shard.execute(f"CREATE INDEX idx_clients_{column} ON clients ({column})")
    shard.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description="Load SOURCE into shard files in DIR, which is empty.")
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("source", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shards", type=int, default=10)
    given = parser.parse_args()
    PEERS[given.name](given.source, given.directory, given.shards)


if __name__ == "__main__":
    main()
