"""The figures of a report: rows and bytes of each shard, a sample of keys, the manifest's windows. Read-only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl.core.model import Table
from etl.core.routing import WHITE_SPACE, is_blank, key_bytes
from etl.query import sql as query_sql
from etl.shards import found_set
from etl.shards.found_set import ShardSet
from etl.shards.manifest import Manifest
from etl.sources import schema, source_file
from etl.sqlite import sql, stdlib
from etl.status import status_file, verifications
from etl.status.status_file import RunStatus
from etl.status.verifications import FullProof

SAMPLE_ROWS = 400_000
"""Keys read from all shards together: every key of a small table."""

_MIN_SAMPLE_ROWS = 200
_MAX_RANGES = 50
_LARGEST_KEYS = 10
_NAME_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Inspection:
    """The figures of one set of shards."""

    found: ShardSet
    shards: pl.DataFrame
    """One row for each shard, in the order of slots: shard, rows, keyless, bytes, sampled, misplaced."""
    largest_keys: pl.DataFrame
    """The keys with the most rows in the sample: name (a salted HMAC), shard, rows."""
    windows: pl.DataFrame
    """The manifest."""
    is_sampled: bool
    """Whether the keys of only some rows were read."""
    last_run: RunStatus | None
    verifications: Mapping[str, Any]
    """`verifications.figures`."""
    last_full_proof: FullProof | None
    is_source_unchanged: bool | None
    """Since the last full proof; None without one, or if the file does not show it."""

    @property
    def rows(self) -> int:
        """All rows that the ledgers record."""
        return int(self.shards["rows"].sum())

    @property
    def hash_shards(self) -> pl.DataFrame:
        """The hash shards; `rows` counts only rows with a key."""
        return self.shards.head(self.found.identity.num_shards).with_columns(rows=pl.col("rows") - pl.col("keyless"))


def inspect(shard_dir: str | Path, table: str | None = None) -> Inspection:
    """Reads every shard of the directory. Raises Refused or EtlError if a shard is missing or not finished.

    A key is named by an HMAC with a random salt that is not stored: within one inspection equal names mean equal
    keys, and no name leads back to a key.
    """
    found = found_set.find(Path(shard_dir), table)
    numbers = found.shard_map.shards
    found.check(numbers)
    definition = schema.inspect(found.path(numbers[0]), found.table, found.identity.shard_key, opened=stdlib.shard)[0]
    salt = secrets.token_bytes(32)
    sample_rows = max(_MIN_SAMPLE_ROWS, SAMPLE_ROWS // len(numbers))
    rows, largest = [], Counter[tuple[int, bytes]]()
    for shard in numbers:
        count = found.extent(shard, definition).rows
        sample = _sample(found.path(shard), definition, rows=count, max_rows=sample_rows)
        keys = Counter(sample.values())
        rows.append(
            {
                "shard": shard,
                "rows": count,
                "keyless": _keyless(found, definition, shard, count),
                "bytes": _bytes(found.path(shard)),
                "sampled": len(sample),
                "misplaced": sum(times for key, times in keys.items() if found.shard_of(key) != shard),
            }
        )
        with_key = Counter({(shard, key): times for key, times in keys.items() if not is_blank(key)})
        largest = Counter(dict((largest | with_key).most_common(_LARGEST_KEYS)))
    proof = verifications.last_full_proof(found.directory, found.table)
    return Inspection(
        found,
        pl.DataFrame(
            rows, schema=dict.fromkeys(["shard", "rows", "keyless", "bytes", "sampled", "misplaced"], pl.Int64)
        ),
        pl.DataFrame(
            [(_name(salt, key), shard, times) for (shard, key), times in largest.most_common(_LARGEST_KEYS)],
            schema={"name": pl.String, "shard": pl.Int64, "rows": pl.Int64},
            orient="row",
        ),
        Manifest(found.directory, found.table).entries(),
        is_sampled=any(row["rows"] > sample_rows for row in rows),
        last_run=status_file.read(status_file.path_of(found.directory, found.table)),
        verifications=verifications.figures(found.directory, found.table),
        last_full_proof=proof,
        is_source_unchanged=_is_unchanged(proof) if proof else None,
    )


def _is_unchanged(proof: FullProof) -> bool | None:
    """Whether nobody has written to the source since the proof began; None where only its rows would show it."""
    try:
        now = source_file.state(Path(proof.source.path))
    except OSError:
        return None
    return (None if now.change_counter is None else True) if now == proof.source else False


def _sample(path: Path, table: Table, *, rows: int, max_rows: int) -> dict[int, bytes]:
    """By rowid, the keys as they are hashed: of all rows, or of ranges spread evenly over the rowids."""
    with stdlib.shard(path) as database:
        database.text_factory = bytes
        first, last = database.execute(sql.ends(table)).fetchone()
        if first is None:
            return {}
        count = 1 if rows <= max_rows else min(_MAX_RANGES, max_rows)
        starts = [first + (last - first) * index // count for index in range(count)]
        query = query_sql.keys_from(table, rows=-1 if count == 1 else max_rows // count)
        return {rowid: key_bytes(key) for start in starts for rowid, key in database.execute(query, (start,))}


def _keyless(found: ShardSet, table: Table, shard: int, rows: int) -> int:
    """The shard's rows without a key: all rows of the reserved shard, unless it is also a hash shard."""
    if shard != found.identity.reserved_shard:
        return 0
    if shard >= found.identity.num_shards:
        return rows
    with stdlib.shard(found.path(shard)) as database:
        return int(database.execute(query_sql.count_keyless(table), (WHITE_SPACE,)).fetchone()[0])


def _bytes(path: Path) -> int:
    """Of the shard's file and its -wal."""
    wal = path.with_name(path.name + "-wal")
    return path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)


def _name(salt: bytes, key: bytes) -> str:
    return hmac.new(salt, key, hashlib.sha256).hexdigest()[:_NAME_DIGITS]
