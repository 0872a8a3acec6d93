"""The shard set that the settings describe, whether its files exist or not. What a directory holds: `found_set`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from etl.core.errors import Refused
from etl.core.model import Identity, Index, ShardMap, Table
from etl.core.routing import shard_path
from etl.runtime.settings import Settings
from etl.shards.ddl_check import searches_key
from etl.shards.manifest import Manifest
from etl.shards.shard import Shard
from etl.sqlite import sql, stdlib

AnyShard = TypeVar("AnyShard", bound=Shard)
_MAX_NAME_BYTES = 255 - len("-journal")
_MAX_PATH_BYTES = 500
"""SQLite's own limit is 512, with -journal at the end."""


@dataclass(frozen=True, slots=True)
class ConfiguredShardSet:
    """All shards of a table, by the settings."""

    shards: Sequence[Shard]
    """By slot."""
    map: ShardMap
    indexes: Sequence[Index]
    """Those of every finished shard."""
    manifest: Manifest


def configured(settings: Settings, table: Table) -> ConfiguredShardSet:
    """Opens nothing. Raises Refused where a shard's path is too long."""
    manifest = Manifest(settings.SHARD_DIR, settings.TABLE_NAME)
    return ConfiguredShardSet(shards(settings, table), settings.shard_map, indexes(settings, table), manifest)


def indexes(settings: Settings, table: Table) -> tuple[Index, ...]:
    """Those of every finished shard: by the settings, and one that begins with the shard key."""
    chosen = sql.indexes(table, columns=settings.INDEX_COLUMNS, copied=settings.COPY_INDEXES)
    return chosen if searches_key(table, chosen) else (*chosen, sql.key_index(table, chosen))


def shards(settings: Settings, table: Table) -> list[Shard]:
    """The shards by slot. Opens nothing. Raises Refused where a path is too long."""
    return shards_as(Shard, settings, table)


def shards_as(kind: type[AnyShard], settings: Settings, table: Table) -> list[AnyShard]:
    """The same, as objects of this class."""
    by_slot = []
    for number in settings.shard_map.shards:
        path = shard_path(settings.SHARD_DIR, settings.TABLE_NAME, number)
        if len(os.fsencode(path.name)) > _MAX_NAME_BYTES or len(os.fsencode(path.absolute())) > _MAX_PATH_BYTES:
            raise Refused(
                f"{path}: a shard's name may have {_MAX_NAME_BYTES} bytes and its path {_MAX_PATH_BYTES}; choose a "
                "shorter SHARD_DIR, or rename the table"
            )
        identity = Identity(
            source=str(settings.SOURCE_DB.resolve()),
            source_table=table.name,
            ddl_sha256=hashlib.sha256(table.ddl.encode("utf-8", "surrogateescape")).hexdigest(),
            shard_key=table.key.name,
            num_shards=settings.NUM_SHARDS,
            reserved_shard=settings.RESERVED_SHARD,
            shard=number,
        )
        by_slot.append(kind(path, table, identity))
    return by_slot


def file_states(settings: Settings) -> str:
    """A hash of what the file system says of the shards; another one when somebody has written or restored one."""
    digest = hashlib.sha256()
    for number in settings.shard_map.shards:
        path = shard_path(settings.SHARD_DIR, settings.TABLE_NAME, number)
        if path.exists():
            found, wal = path.stat(), stdlib.bytes_beside(path, "-wal")
            digest.update(repr((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, wal)).encode())
        digest.update(b"|")
    return digest.hexdigest()
