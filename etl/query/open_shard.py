"""Opens the one shard that holds a key, for an application. Needs the standard library only."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from etl.core.routing import Key
from etl.shards import found_set
from etl.shards.found_set import ShardSet
from etl.sqlite import stdlib


def open_shard(key: Key, *, shard_dir: str | Path | None = None, table: str | None = None) -> sqlite3.Connection:
    """A read-only connection to the shard of the key; close it when done.

    Without `shard_dir`, SHARD_DIR and TABLE_NAME come from the environment or from `.env` in the current directory.
    With a SQLite before 3.52 (see `sqlite3.sqlite_version`) a query that uses an index on text made from reals may
    find no row: see "Indexes on text made of reals" in docs/moving-an-application.md.

    Raises Refused or EtlError if the shard is missing, not finished, or of another set.
    """
    found = found_shards(shard_dir, table)
    shard = found.shard_of(key)
    found.check([shard])
    return stdlib.connect(found.path(shard))


def found_shards(shard_dir: str | Path | None, table: str | None) -> ShardSet:
    """The shards in the directory, or, without one, of the settings. Raises as `found_set.find` does."""
    if shard_dir is None:
        from etl.runtime.settings import load  # noqa: PLC0415 - importing pydantic is slow, and most callers give shard_dir

        settings = load(os.environ, Path(".env"))
        shard_dir, table = settings.SHARD_DIR, table or settings.TABLE_NAME
    return found_set.find(Path(shard_dir), table)
