"""A row's fingerprint, a cell at a time, from `etl.verify.digest`'s formula and XXH64's specification alone."""

import struct
from collections.abc import Sequence

MASK = 2**64 - 1
LOW, HIGH, STEP = 0x9FB21C651E98DF25, 0xD6E8FEB86659FD93, 0x9E3779B97F4A7C15
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
TAGS = {"null": 0, "integer": 1, "real": 2, "text": 3, "blob": 4}
Cell = tuple[str, int | float | bytes | None]  # storage class and value, a text as its bytes


def _rotated(x: int, bits: int) -> int:
    return (x << bits | x >> (64 - bits)) & MASK


def _round(accumulator: int, read_type: int) -> int:
    return _rotated((accumulator + read_type * P2) & MASK, 31) * P1 & MASK


def xxh64(data: bytes) -> int:
    """https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, seed 0."""
    at, length = 0, len(data)
    if length >= 32:
        read_types = [(P1 + P2) & MASK, P2, 0, -P1 & MASK]
        while length - at >= 32:
            read_types = [
                _round(read_type, word)
                for read_type, word in zip(read_types, struct.unpack_from("<4Q", data, at), strict=True)
            ]
            at += 32
        h = sum(_rotated(read_type, bits) for read_type, bits in zip(read_types, (1, 7, 12, 18), strict=True)) & MASK
        for read_type in read_types:
            h = ((h ^ _round(0, read_type)) * P1 + P4) & MASK
    else:
        h = P5
    h = (h + length) & MASK
    while length - at >= 8:
        h = (_rotated(h ^ _round(0, *struct.unpack_from("<Q", data, at)), 27) * P1 + P4) & MASK
        at += 8
    if length - at >= 4:
        h = (_rotated(h ^ struct.unpack_from("<I", data, at)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        h = _rotated(h ^ byte * P5 & MASK, 11) * P1 & MASK
    for bits, factor in ((33, P2), (29, P3)):
        h = (h ^ h >> bits) * factor & MASK
    return h ^ h >> 32


def bytes_of(hashed: int) -> bytes:
    """The 8 bytes whose XXH64 is that number: for so few the hash can be turned back, a step at a time."""
    h = hashed ^ hashed >> 32
    for bits, factor in ((29, P3), (33, P2)):
        h = h * pow(factor, -1, 2**64) & MASK
        h ^= h >> bits ^ (h >> 2 * bits)
    h = (h - P4) * pow(P1, -1, 2**64) & MASK
    h = (_rotated(h, 64 - 27) ^ (P5 + 8)) * pow(P1, -1, 2**64) & MASK
    return struct.pack("<Q", _rotated(h, 64 - 31) * pow(P2, -1, 2**64) & MASK)


def mix(x: int) -> int:
    x &= MASK
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = (x ^ x >> 33) * factor & MASK
    return x ^ x >> 33


def payload(value: float | bytes | None) -> int:
    match value:
        case None:
            return 0
        case bytes():
            return xxh64(value)
        case float():
            return int.from_bytes(struct.pack("<d", value), "little")
        case int():
            return value & MASK


def fingerprint(rowid: int, cells: Sequence[Cell]) -> tuple[int, int]:
    low, high = mix(rowid + LOW), mix(rowid + HIGH)
    for storage_class, value in cells:
        of_class = (TAGS[storage_class] + 1) * STEP
        word = mix(payload(value) + of_class)
        low = (low ^ word) * LOW & MASK
        high = (high + word + of_class) * HIGH & MASK
    return mix(low), mix(high)
