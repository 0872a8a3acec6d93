"""What a finished migration must be beside equal: manifest and ledgers agree, and every shard is indexed and serves."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import polars as pl

from tests.oracle import opened, shard_name
from tests.workplace import differences, shard_files

Ledger = dict[tuple[int, int], int]


def faults_of(environ: Mapping[str, str]) -> list[str]:
    """Everything that a finished run should have made and has not; empty means complete."""
    return [*differences(environ), *_manifest_faults(environ), *_serving_faults(environ)]


def ledger(path: Path) -> Ledger:
    """A shard's windows and the rows it has of each."""
    with closing(opened(path)) as database:
        lines = database.execute("SELECT first_rowid, last_rowid, rows FROM _etl_windows")
        return {(first, last): rows for first, last, rows in lines}


def manifest(environ: Mapping[str, str]) -> pl.DataFrame:
    """As the README tells people to read it."""
    return pl.read_parquet(f"{environ['SHARD_DIR']}/manifest/*.parquet")


def _manifest_faults(environ: Mapping[str, str]) -> Iterator[str]:
    shards = sorted({*range(int(environ["NUM_SHARDS"])), int(environ["RESERVED_SHARD"])})
    ledgers = {shard: ledger(Path(environ["SHARD_DIR"]) / shard_name(environ["TABLE_NAME"], shard)) for shard in shards}
    expected = {
        window: [{"shard": shard, "rows": ledgers[shard][window]} for shard in shards] for window in ledgers[shards[0]]
    }
    rows = manifest(environ).sort("first_rowid").to_dicts()
    found = [(row["first_rowid"], row["last_rowid"]) for row in rows]
    if found != sorted(expected):
        yield f"the manifest's windows are {found}, the ledgers' {sorted(expected)}"
        return
    for window, row in zip(found, rows, strict=True):
        if row["rows_by_shard"] != expected[window]:
            yield f"window {window}: rows_by_shard is {row['rows_by_shard']}, not the ledgers' {expected[window]}"
        if row["rows"] != sum(by_shard["rows"] for by_shard in expected[window]):
            yield f"window {window}: rows is {row['rows']}, not the sum of the ledgers' {expected[window]}"


def _serving_faults(environ: Mapping[str, str]) -> Iterator[str]:
    with closing(sqlite3.connect(f"file:{environ['SOURCE_DB']}?mode=ro", uri=True)) as source:
        found = source.execute("SELECT name FROM pragma_table_info(?)", (environ["TABLE_NAME"],))
        columns = [name for (name,) in found]
    wanted = {name for name in (environ["SHARD_KEY"], *environ["INDEX_COLUMNS"].split(",")) if name in columns}
    for path in shard_files(environ):
        with closing(opened(path)) as database:
            (mode,) = database.execute("PRAGMA journal_mode").fetchone()
            indexed = {name.decode() for (name,) in database.execute(INDEXED, (environ["TABLE_NAME"],))}
        if mode not in {"wal", b"wal"}:
            yield f"{path.name}: journal_mode is {mode!r}"
        if not wanted <= indexed:
            yield f"{path.name}: indexed are {sorted(indexed)}, not all of {sorted(wanted)}"


INDEXED = "SELECT info.name FROM pragma_index_list(?) AS list, pragma_index_info(list.name) AS info"
