"""Opens the one shard that holds a key, for an application. Needs the standard library only."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from etl.core.routing import Key
from etl.shards import found_set
from etl.shards.found_set import ShardSet
from etl.sqlite import sql, stdlib


def open_shard(
    key: Key, *, shard_dir: str | Path | None = None, table: str | None = None, writable: bool = False
) -> sqlite3.Connection:
    """A connection to the shard of the key, read-only unless it is `writable`; close it when done.

    Without `shard_dir`, SHARD_DIR and TABLE_NAME come from the environment or from `.env` in the current directory.
    With a SQLite before 3.52 (see `sqlite3.sqlite_version`) a query that uses an index on text made from reals may
    find no row: see "Indexes on text made of reals" in docs/moving-an-application.md.

    A writable connection waits five seconds for another writer, and a commit is on disk when it returns
    (synchronous=FULL). Foreign keys are checked, unless the table has some itself: their parents may be in other files.

    Raises Refused or EtlError if the shard is missing, not finished, of another set, or, for a writable connection,
    not sealed by a cut-over.
    """
    found = found_shards(shard_dir, table)
    shard = found.shard_of(key)
    found.check([shard])
    path = found.path(shard)
    if not writable:
        return stdlib.connect(path)
    found.seal(shard)  # or it is refused
    return _writable(path, found.table)


def found_shards(shard_dir: str | Path | None, table: str | None) -> ShardSet:
    """The shards in the directory, or, without one, of the settings. Raises as `found_set.find` does."""
    if shard_dir is None:
        from etl.runtime.settings import load  # noqa: PLC0415 - importing pydantic is slow, and most callers give shard_dir

        settings = load(os.environ, Path(".env"))
        shard_dir, table = settings.SHARD_DIR, table or settings.TABLE_NAME
    return found_set.find(Path(shard_dir), table)


def _writable(path: Path, table: str) -> sqlite3.Connection:
    database = stdlib.connect(path, "rw")
    has_parents = database.execute(f"PRAGMA main.foreign_key_list({sql.quote(table)})").fetchone() is not None
    database.execute(f"PRAGMA foreign_keys = {'OFF' if has_parents else 'ON'}")
    database.execute("PRAGMA synchronous = FULL")
    return database
