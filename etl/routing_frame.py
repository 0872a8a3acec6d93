"""Which shard each row of a frame belongs to: the contract of `etl.routing`, vectorised."""

from __future__ import annotations

import polars as pl
import polars_hash  # noqa: F401 - registers the `chash` namespace on Polars expressions

from etl.model import ShardMap
from etl.routing import WHITE_SPACE, real_text

_LIMBS = 8
_LIMB_DIGITS = 8
_BLANK_HEX = "^(?:" + "|".join(character.encode().hex() for character in WHITE_SPACE) + ")*$"
"""Matches the hex form of bytes that spell only White_Space: anchored, and every branch is whole bytes."""


def slots(keys: pl.Series, shard_map: ShardMap) -> pl.Series:
    """The slot of each key: UInt64, no nulls, as long as `keys`.

    `keys` is String or Binary, hashed as it is, null for NULL. The digest is read as eight big-endian 32-bit limbs,
    so that its residue is `(Σ limb_i · (2^(32·(7−i)) mod n)) mod n`: exact in 64 bits while n < 2^29.
    """
    n = shard_map.num_shards
    digest = keys.to_frame("key").select(pl.col("key").chash.sha2_256().alias("digest"))  # type: ignore[attr-defined]  # plugin namespace
    residue = pl.sum_horizontal(
        pl.col("digest").str.slice(_LIMB_DIGITS * i, _LIMB_DIGITS).str.to_integer(base=16, dtype=pl.UInt64)
        * pow(2, 32 * (_LIMBS - 1 - i), n)
        for i in range(_LIMBS)
    )
    hashed = digest.select((residue % n).alias("slot")).to_series()
    blank = _blank(keys)
    if not blank.any():
        return hashed
    return (
        pl.DataFrame([hashed, blank.alias("blank")])
        .select(pl.when("blank").then(pl.lit(shard_map.reserved_slot, dtype=pl.UInt64)).otherwise("slot").alias("slot"))
        .to_series()
    )


def _blank(keys: pl.Series) -> pl.Series:
    if keys.dtype == pl.Binary:
        return keys.bin.encode("hex").str.contains(_BLANK_HEX).fill_null(True)
    return (keys.str.strip_chars() == "").fill_null(True)  # with no argument it strips exactly White_Space


def integer_keys(values: pl.Series) -> pl.Series:
    """Integers as the text that is hashed: their decimal digits."""
    return values.cast(pl.String)


def real_keys(values: pl.Series) -> pl.Series:
    """Reals as the text that is hashed; a cell at a time, since no vectorised formatter has SQLite's format."""
    return values.map_elements(real_text, return_dtype=pl.String)
