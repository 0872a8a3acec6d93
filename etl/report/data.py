"""What there is to see of a set of shards: rows, bytes, a sample of keys, and the manifest's windows. Read-only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from etl.core.model import Table
from etl.core.routing import WHITE_SPACE, is_blank, key_bytes
from etl.query import sql
from etl.shards import found_set
from etl.shards.found_set import ShardSet
from etl.shards.manifest import Manifest
from etl.sources import schema
from etl.sqlite import stdlib

SAMPLE_ROWS = 400_000
"""Keys looked at over all shards: every key of a small table."""

_LEAST_SAMPLE_ROWS = 200
_STRETCHES = 50
_HEAVIEST = 10
_NAME_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Inspection:
    """One look at a set of shards."""

    found: ShardSet
    shards: pl.DataFrame
    """A row a shard, in the order of slots: shard, rows, keyless, bytes, sampled, misplaced."""
    heaviest: pl.DataFrame
    """The keys with the most rows in the sample: name (a salted HMAC), shard, rows."""
    windows: pl.DataFrame
    """The manifest."""

    @property
    def rows(self) -> int:
        """All rows, as the ledgers have them."""
        return int(self.shards["rows"].sum())

    @property
    def hashed(self) -> pl.DataFrame:
        """The hash shards, with the rows that have a key."""
        return self.shards.head(self.found.identity.num_shards).with_columns(rows=pl.col("rows") - pl.col("keyless"))


def take(shard_dir: str | Path, table: str | None = None) -> Inspection:
    """Looks at every shard of the directory. Raises Refused or EtlError where one is lost or not finished.

    A key is named by an HMAC under a salt that is drawn here and kept nowhere: within one look equal names are equal
    keys, and no name leads back to a key.
    """
    found = found_set.find(Path(shard_dir), table)
    numbers = found.shard_map.shards
    found.check(numbers)
    looked = schema.look(found.path(numbers[0]), found.table, found.identity.shard_key)[0]
    salt = secrets.token_bytes(32)
    rows, heavy = [], Counter[tuple[int, bytes]]()
    for shard in numbers:
        count = found.extent(shard, looked).rows
        sample = _sample(
            found.path(shard), looked, rows=count, budget=max(_LEAST_SAMPLE_ROWS, SAMPLE_ROWS // len(numbers))
        )
        keys = Counter(sample.values())
        rows.append(
            {
                "shard": shard,
                "rows": count,
                "keyless": _keyless(found, looked, shard, count),
                "bytes": _bytes(found.path(shard)),
                "sampled": len(sample),
                "misplaced": sum(times for key, times in keys.items() if found.shard_of(key) != shard),
            }
        )
        with_key = Counter({(shard, key): times for key, times in keys.items() if not is_blank(key)})
        heavy = Counter(dict((heavy | with_key).most_common(_HEAVIEST)))
    return Inspection(
        found,
        pl.DataFrame(
            rows, schema=dict.fromkeys(["shard", "rows", "keyless", "bytes", "sampled", "misplaced"], pl.Int64)
        ),
        pl.DataFrame(
            [(_name(salt, key), shard, times) for (shard, key), times in heavy.most_common(_HEAVIEST)],
            schema={"name": pl.String, "shard": pl.Int64, "rows": pl.Int64},
            orient="row",
        ),
        Manifest(found.directory, found.table).entries(),
    )


def _sample(path: Path, table: Table, *, rows: int, budget: int) -> dict[int, bytes]:
    """The keys, as they are hashed, of all rows, or of stretches spread over the rowids; by rowid."""
    with stdlib.shard(path) as database:
        database.text_factory = bytes
        least, most = database.execute(sql.rowid_bounds(table)).fetchone()
        if least is None:
            return {}
        stretches = 1 if rows <= budget else min(_STRETCHES, budget)
        starts = [least + (most - least) * index // stretches for index in range(stretches)]
        query = sql.keys_from(table, rows=-1 if stretches == 1 else budget // stretches)
        return {rowid: key_bytes(key) for start in starts for rowid, key in database.execute(query, (start,))}


def _keyless(found: ShardSet, table: Table, shard: int, rows: int) -> int:
    """The shard's rows without a key: all of the reserved shard's, unless it is a hash shard as well."""
    if shard != found.identity.reserved_shard:
        return 0
    if shard >= found.identity.num_shards:
        return rows
    with stdlib.shard(found.path(shard)) as database:
        return int(database.execute(sql.count_keyless(table), (WHITE_SPACE,)).fetchone()[0])


def _bytes(path: Path) -> int:
    """The shard's file and its -wal."""
    wal = path.with_name(path.name + "-wal")
    return path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)


def _name(salt: bytes, key: bytes) -> str:
    return hmac.new(salt, key, hashlib.sha256).hexdigest()[:_NAME_DIGITS]
