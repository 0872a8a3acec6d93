"""Which shard a key belongs to: the scalar form of the contract, standard library only.

`shard = int(sha256(key).hexdigest(), 16) % num_shards` over the key's bytes as they are; a key that is NULL, empty or
nothing but Unicode White_Space goes to the reserved shard. `etl.core.partition` is the same contract, vectorised.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""The 25 characters with the property White_Space (Unicode Character Database, PropList.txt)."""

Key = str | bytes | int | float | None


def shard_of(key: Key, *, num_shards: int = 10, reserved_shard: int = 10) -> int:
    """The shard of one key, as an application computes it.

    Text counts as its UTF-8 bytes and bytes as they are, neither trimmed; an integer as its decimal digits; a float
    as `real_text` writes it.
    """
    data = key_bytes(key)
    if is_blank(data):
        return reserved_shard
    return int.from_bytes(hashlib.sha256(data).digest(), "big") % num_shards


def key_bytes(key: Key) -> bytes:
    """The bytes that are hashed for a key; empty for None."""
    match key:
        case None:
            return b""
        case bytes():
            return key
        case str():
            return key.encode("utf-8", "surrogatepass")
        case float():
            return real_text(key).encode()
        case int():
            return str(int(key)).encode()


def is_blank(data: bytes) -> bool:
    """Whether the bytes are empty or spell only White_Space; bytes that are no UTF-8 spell something else."""
    try:
        return not data.decode().strip(WHITE_SPACE)
    except UnicodeDecodeError:
        return False


def real_text(value: float) -> str:
    """A real's text: 15 significant digits, as `CAST(value AS TEXT)` wrote it in every SQLite before 3.53.

    SQLite's own digits depend on its version (3.53 prints 17). So the contract does not use them: the digits are those
    of C's `%.15g`, correctly rounded, always with a decimal point. NaN is NULL in SQLite, so it is empty here.
    """
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    mantissa, exponent_mark, exponent = format(value + 0.0, ".15g").partition("e")  # + 0.0 turns -0.0 into 0.0
    point = "" if "." in mantissa else ".0"
    return mantissa + point + exponent_mark + exponent


def in_file_names(table: str) -> str:
    """The table's name as files have it: a `/` is written `%2F`, so no name leaves the directory."""
    return table.replace("/", "%2F")


def shard_path(shard_dir: Path, table: str, shard: int) -> Path:
    """The shard's file: `<table>_shard_<NN>.db`."""
    return shard_dir / f"{in_file_names(table)}_shard_{shard:02d}.db"
