"""The one shard that holds a key, opened for an application: the standard library only."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from etl.core.routing import Key
from etl.shards import found_set
from etl.sqlite import stdlib


def open_shard(key: Key, *, shard_dir: str | Path | None = None, table: str | None = None) -> sqlite3.Connection:
    """A read-only connection to the shard that the key belongs to; close it when done.

    `shard_dir` and `table` are the environment's SHARD_DIR and TABLE_NAME (or `.env`'s here) where no `shard_dir` is
    given. An index on text made of reals may be wrong for a SQLite before 3.52 (this one is `sqlite3.sqlite_version`),
    so that a query by it finds no row: see "Indexes on text made of reals" in docs/moving-an-application.md.

    Raises Refused or EtlError where the shard is lost, is not finished, or is not one of the set.
    """
    if shard_dir is None:
        from etl.runtime.settings import load  # noqa: PLC0415 - pydantic takes a while, and most callers know their directory

        settings = load(os.environ, Path(".env"))
        shard_dir, table = settings.SHARD_DIR, table or settings.TABLE_NAME
    found = found_set.find(Path(shard_dir), table)
    shard = found.shard_of(key)
    found.check([shard])
    return stdlib.connect(found.path(shard))
