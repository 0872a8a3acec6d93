"""A frame's rows by shard: vectorised routing, then one gather by (slot, rowid) of which each shard takes a slice.

`etl.core.routing` is the scalar form of the same contract.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash  # noqa: F401 - registers the `chash` namespace on Polars expressions
import pyarrow as pa

from etl.core.columns import ROWID, TAGS, ReadTypes
from etl.core.model import ReadType, RowidRange, ShardMap, Table
from etl.core.routing import WHITE_SPACE, real_text

ToUtf8 = Callable[[pl.Series], pl.Series]

_LIMBS = 8
_CHUNK_ROWS = 4096
"""The hexadecimal digits of this many digests fit in the CPU's cache while they are parsed."""
_BLANK_HEX = "^(?:" + "|".join(character.encode().hex() for character in WHITE_SPACE) + ")*$"
"""Matches the hexadecimal form of bytes that are nothing but White_Space characters."""


@dataclass(frozen=True, slots=True)
class RowsByShard:
    """A read task's rows, sorted by slot and then rowid."""

    cells: pa.Table
    """The parameters of `sql.insert`, in its order; shape (rows, parameters)."""
    offsets: npt.NDArray[np.int64]
    """Slot s has the rows offsets[s] … offsets[s+1]−1; shape (slots + 1,)."""
    window_rows: npt.NDArray[np.int64]
    """How many rows of each window each slot got; shape (windows, slots)."""
    breaks_not_null: bool
    """Whether a row has a NULL where the table says NOT NULL, or a generated column may get one."""

    def of(self, slot: int) -> pa.Table:
        """The slot's rows; a view, nothing is copied."""
        start = int(self.offsets[slot])
        return self.cells.slice(start, int(self.offsets[slot + 1]) - start)


def split_by_shard(
    frame: pl.DataFrame,
    keys: pl.Series,
    *,
    table: Table,
    read_types: ReadTypes,
    windows: Sequence[RowidRange],
    shards: ShardMap,
) -> RowsByShard:
    """Sorts the windows' rows, which come in rowid order, by slot."""
    window_of = np.searchsorted([window.last_rowid for window in windows], frame[ROWID].to_numpy())
    slot_of = slots(keys, shards)
    order = np.argsort(slot_of, kind="stable")  # a radix sort on 16 bits; stable, so rowids stay in order within a slot
    count = len(shards.shards)
    cells = [ROWID, *(name for _, names in read_types.written(table) for name in names)]
    gathered = frame.select(pl.col(cells).gather(pl.Series(order.astype(np.uint32))))
    window_rows = np.bincount(window_of * count + slot_of, minlength=len(windows) * count)
    return RowsByShard(
        # String views as Polars has them: a conversion to offsets would only be undone by the driver.
        cells=gathered.to_arrow(compat_level=pl.CompatLevel.newest()),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(slot_of, minlength=count))]),
        window_rows=window_rows.reshape(len(windows), count),
        breaks_not_null=_breaks_not_null(gathered, table, read_types),
    )


def _breaks_not_null(frame: pl.DataFrame, table: Table, read_types: ReadTypes) -> bool:
    if any(column.generated and column.not_null for column in table.columns):
        return True  # its cells are not read
    firsts = (frame[names[0]] for column, names in read_types.written(table) if column.not_null)
    return any(first.null_count() or (first.name.endswith("_tag") and (first == 0).any()) for first in firsts)


def keys(frame: pl.DataFrame, table: Table, read_types: ReadTypes, *, utf8: ToUtf8 | None) -> pl.Series:
    """What is hashed for each row: String or Binary, null for NULL.

    `utf8` converts the bytes of text cells to UTF-8, Binary to Binary; None if the source's text is UTF-8.
    """
    if table.key.name == table.rowid_column:
        return integer_keys(frame[ROWID])
    position = table.carried.index(table.key)
    names = read_types.frame_columns(position)
    match read_types.types[position]:
        case ReadType.TEXT | ReadType.BLOB:
            return frame[names[0]]
        case ReadType.INTEGER:
            return integer_keys(frame[names[0]])
        case ReadType.REAL:
            return real_keys(frame[names[0]])
        case ReadType.VARIANT:
            return variant_keys([frame[name] for name in names], utf8)


def variant_keys(cells: Sequence[pl.Series], utf8: ToUtf8 | None) -> pl.Series:
    """What is hashed for a variant's four columns: Binary, null or empty for NULL."""
    tag, integer, real, data = cells
    if utf8 is not None:
        is_text = tag == TAGS["text"]
        nulls = pl.Series([None], dtype=pl.Binary).new_from_index(0, len(tag))
        data = utf8(data.zip_with(is_text, nulls)).zip_with(is_text, data)
    integers = integer_keys(integer).cast(pl.Binary)
    reals = real_keys(real).cast(pl.Binary)
    return integers.zip_with(tag == TAGS["integer"], reals.zip_with(tag == TAGS["real"], data))


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
    slot_of = (residues % np.uint64(n)).astype(np.uint16)
    slot_of[_blank(keys).to_numpy()] = shard_map.reserved_slot
    return slot_of


def _limbs(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The number that each word's eight hexadecimal digits spell; the first digit is the word's lowest byte.

    All digits of a word at once. A digit's value is the low four bits of its code, plus 9 for a letter (bit 6 is set).
    Then neighbours are joined three times: digits to bytes, bytes to halves, halves to the limb.
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
    """Integers as the text that is hashed."""
    return values.cast(pl.String)


def real_keys(values: pl.Series) -> pl.Series:
    """Reals as the text that is hashed."""
    # A cell at a time: no vectorised formatter has SQLite's format.
    return values.map_elements(real_text, return_dtype=pl.String)
