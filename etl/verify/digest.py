"""The fingerprint of a row: 128 bits, computed from every cell's position, storage class and bytes.

    mix(x)      MurmurHash3's finaliser: x ^= x >> 33; x *= ff51afd7ed558ccd; x ^= x >> 33; x *= c4ceb9fe1a85ec53;
                x ^= x >> 33 (all arithmetic modulo 2^64, constants in hexadecimal)
    payload     0 for NULL; an integer's 64 bits; a real's 64 bits; XXH64 (seed 0) of a text's or blob's bytes
    class       (tag + 1) · 9e3779b97f4a7c15, tag 0 NULL, 1 integer, 2 real, 3 text, 4 blob
    word        mix(payload + class)
    low, high   mix(rowid + LOW), mix(rowid + HIGH); then for each column in the table's order
                low = (low ^ word) · LOW, high = (high + word + class) · HIGH
    fingerprint mix(low), mix(high)

Two rows that differ in one cell, by its class or its payload, never have the same fingerprint. Each step can be
reversed: mix is a bijection, and LOW and HIGH are odd. So the fingerprint gives that cell's `word` (from low) and its
`word + class` (from high). The difference of the two is the class, and `word` and class give the payload. Of the
payloads only that of a text or blob is a hash, which two values can share.

A row's two numbers are mixed before rows are summed (modulo 2^64 each), so that cells exchanged between rows or
columns change the sum. The order of rows does not change it, and a row that is there twice counts twice. The same cells
give the same fingerprint, whatever their read types. Generated columns are left out: each SQLite computes its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash  # noqa: F401 - registers the `nchash` namespace on Polars expressions

from etl.core.columns import ROWID, TAGS, ReadTypes
from etl.core.model import ReadType, Table

Words = npt.NDArray[np.uint64]

LOW = 0x9FB21C651E98DF25
HIGH = 0xD6E8FEB86659FD93
CLASS_STEP = 0x9E3779B97F4A7C15
_CHUNK_ROWS = 16_384
"""The words of a chunk fit in the CPU's cache while they are mixed."""
_TAG_OF = {
    ReadType.INTEGER: TAGS["integer"],
    ReadType.REAL: TAGS["real"],
    ReadType.TEXT: TAGS["text"],
    ReadType.BLOB: TAGS["blob"],
}
_CLASSES = np.array([(tag + 1) * CLASS_STEP % 2**64 for tag in range(1 + len(TAGS))], np.uint64)


def fingerprints(frame: pl.DataFrame, table: Table, read_types: ReadTypes) -> tuple[Words, Words]:
    """The low and the high number of each row; both of shape (rows,)."""
    written = [position for position, column in enumerate(table.carried) if not column.generated]
    names = [read_types.frame_columns(position) for position in written]
    data = [
        columns[-1] for position, columns in zip(written, names, strict=True) if _has_bytes(read_types.types[position])
    ]
    hashes = frame.select(pl.col(data).nchash.xxhash64()) if data else pl.DataFrame()  # type: ignore[attr-defined]  # plugin
    cells = [
        _cells(frame, hashes, columns, read_types.types[position])
        for position, columns in zip(written, names, strict=True)
    ]
    rowids = frame[ROWID].to_numpy().view(np.uint64)
    low, high = np.empty(frame.height, np.uint64), np.empty(frame.height, np.uint64)
    for start in range(0, frame.height, _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        low[chunk], high[chunk] = _mixed_rows(rowids[chunk], [(tags[chunk], data[chunk]) for tags, data in cells])
    return low, high


def _has_bytes(read_type: ReadType) -> bool:
    return read_type in (ReadType.TEXT, ReadType.BLOB, ReadType.VARIANT)


def _cells(
    frame: pl.DataFrame, hashes: pl.DataFrame, columns: Sequence[str], read_type: ReadType
) -> tuple[npt.NDArray[np.uint8], Words]:
    """A column's tags and payloads, both of shape (rows,)."""
    if read_type is ReadType.VARIANT:
        tag, integer, real, data = columns
        # Only the column that the tag names is not null; null counts as 0, so the sum is the payload.
        payload = _integers(frame[integer]) + _reals(frame[real]) + hashes[data].fill_null(0).to_numpy()
        return frame[tag].cast(pl.UInt8).to_numpy(), payload
    cell = frame[columns[0]]
    tags = np.full(len(cell), _TAG_OF[read_type], np.uint8)
    if cell.null_count():
        tags[cell.is_null().to_numpy()] = 0
    match read_type:
        case ReadType.INTEGER:
            return tags, _integers(cell)
        case ReadType.REAL:
            return tags, _reals(cell)
        case _:
            return tags, hashes[columns[0]].fill_null(0).to_numpy()


def _integers(cells: pl.Series) -> Words:
    return cells.fill_null(0).to_numpy().view(np.uint64)


def _reals(cells: pl.Series) -> Words:
    return cells.fill_null(0.0).to_numpy().view(np.uint64)  # all bits of 0.0 are 0


def _mixed_rows(rowids: Words, cells: Sequence[tuple[npt.NDArray[np.uint8], Words]]) -> tuple[Words, Words]:
    low, high = _mixed(rowids + np.uint64(LOW)), _mixed(rowids + np.uint64(HIGH))
    for tags, payload in cells:
        classes = _CLASSES[tags]
        word = _mixed(payload + classes)
        low ^= word
        low *= np.uint64(LOW)
        word += classes
        high += word
        high *= np.uint64(HIGH)
    return _mixed(low), _mixed(high)


def _mixed(words: Words) -> Words:
    """MurmurHash3's finaliser, in place."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        words ^= words >> np.uint64(33)
        words *= np.uint64(factor)
    words ^= words >> np.uint64(33)
    return words
