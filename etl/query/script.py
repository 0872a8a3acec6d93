"""Scripts that make one view of all shards: for the sqlite3 shell and for DuckDB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from etl.core.model import folded
from etl.query import sql
from etl.shards.found_set import ShardSet
from etl.sqlite.sql import literal
from etl.sqlite.stdlib import read_only_uri

_MOST_FILES = 11
"""As many as SQLite opens in one connection: the first, and 10 attached ones (https://sqlite.org/limits.html, 11)."""


def for_sqlite(found: ShardSet, shards: Sequence[int]) -> str:
    """For the sqlite3 shell. Above 11 shards it runs the user's `query.sql` on one group of shards after the other.

    Raises as `ShardSet.check` does.
    """
    column = _shard_column(found.check(shards))
    groups = [shards[start : start + _MOST_FILES] for start in range(0, len(shards), _MOST_FILES)]
    lines = [f"-- All shards as one view, read-only. Its column {column} has the number of the shard."]
    if len(groups) == 1:
        lines += ["-- Save this as shards.sql, and run: sqlite3 -init shards.sql"]
    else:
        lines += [
            f"-- SQLite opens {_MOST_FILES} files at once, so there are {len(groups)} groups of shards.",
            "-- Put your query into query.sql: it runs on each. Save this as shards.sql, and run: sqlite3 < shards.sql",
            "-- (for one view of all shards: DuckDB, with --duckdb)",
        ]
    lines += [".bail on"]
    for first, *others in groups:
        schemas = {first: "main"} | {shard: f"shard_{shard:02d}" for shard in others}
        lines += [f".open {read_only_uri(found.path(first))}"]
        lines += [f"ATTACH {literal(read_only_uri(found.path(shard)))} AS {schemas[shard]};" for shard in others]
        lines += [sql.view(found.table, schemas, column)]
        lines += [".read query.sql"] * (len(groups) > 1)
    return "\n".join(lines)


def for_duckdb(found: ShardSet, shards: Sequence[int]) -> str:
    """For DuckDB, which attaches any number of files. Raises as `ShardSet.check` does."""
    column = _shard_column(found.check(shards))
    schemas = {shard: f"shard_{shard:02d}" for shard in shards}
    lines = [
        f"-- All shards as one view, read-only. Its column {column} has the number of the shard.",
        "-- Save this as shards.sql, and run: duckdb -init shards.sql",
        "INSTALL sqlite; LOAD sqlite;",
        "-- After a Mismatch Type Error remove the two dashes; then every cell is text:",
        "-- SET sqlite_all_varchar = true;",
    ]
    lines += [
        f"ATTACH {literal(str(found.path(shard).absolute()))} AS {schema} (TYPE sqlite, READ_ONLY);"
        for shard, schema in schemas.items()
    ]
    return "\n".join([*lines, sql.view(found.table, schemas, column)])


def _shard_column(columns: Iterable[frozenset[str]]) -> str:
    """A name that no column of the table has."""
    taken, name = {folded(each) for names in columns for each in names}, "_shard"
    while name in taken:
        name = f"_{name}"
    return name
