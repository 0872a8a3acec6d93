"""Which shard each row of a frame belongs to: the contract of `etl.core.routing`, vectorised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash  # noqa: F401 - registers the `chash` namespace on Polars expressions

from etl.core.model import ShardMap
from etl.core.routing import WHITE_SPACE, real_text

_LIMBS = 8
_CHUNK_ROWS = 4096
"""Hexadecimal digits of so many digests stay in the CPU's cache while they are parsed."""
_BLANK_HEX = "^(?:" + "|".join(character.encode().hex() for character in WHITE_SPACE) + ")*$"
"""Matches the hex form of bytes that spell only White_Space: anchored, and every branch is whole bytes."""


def slots(keys: pl.Series, shard_map: ShardMap) -> npt.NDArray[np.uint16]:
    """The slot of each key; shape (rows,).

    `keys` is String or Binary, hashed as it is, null for NULL. The digest is read as eight big-endian 32-bit limbs,
    so that its residue is `(Σ limb_i · (2^(32·(7−i)) mod n)) mod n`: exact in 64 bits while n < 2^29.
    """
    n = shard_map.num_shards
    weights = np.array([pow(2, 32 * (_LIMBS - 1 - i), n) for i in range(_LIMBS)], np.uint64)
    known = keys.fill_null("" if keys.dtype == pl.String else b"")
    digests = known.to_frame("key").select(pl.col("key").chash.sha2_256()).to_series()  # type: ignore[attr-defined]  # plugin
    digits = digests.to_arrow(compat_level=pl.CompatLevel.oldest()).buffers()[2]  # 64 characters a row, no gaps
    words = np.frombuffer(digits, np.dtype("<u8"), count=_LIMBS * len(keys)).reshape(-1, _LIMBS)
    residues = np.empty(len(keys), np.uint64)
    for start in range(0, len(keys), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        np.matmul(_limbs(words[chunk]), weights, out=residues[chunk])
    slots = (residues % np.uint64(n)).astype(np.uint16)
    slots[_blank(keys).to_numpy()] = shard_map.reserved_slot
    return slots


def _limbs(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The number that each word's eight hexadecimal digits spell; the first digit is the word's lowest byte.

    All digits of a word at once: a letter's code is 9 short of its value in the low four bits, and has bit 6 set; then
    neighbours are joined three times, digits to bytes, bytes to halves, halves to the limb.
    """
    limbs = (words >> np.uint64(6)) & np.uint64(0x0101010101010101)
    limbs *= np.uint64(9)
    limbs += words & np.uint64(0x0F0F0F0F0F0F0F0F)
    for bits, mask in ((4, 0x00FF00FF00FF00FF), (8, 0x0000FFFF0000FFFF), (16, 0x00000000FFFFFFFF)):
        limbs *= np.uint64((1 << 3 * bits) + 1)  # x·(2^3b + 1) >> 2b is (x << b) + (x >> 2b)
        limbs >>= np.uint64(2 * bits)
        limbs &= np.uint64(mask)
    return limbs


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
