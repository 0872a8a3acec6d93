"""Cells and rowids drawn by hypothesis: every storage class, at its limits and beyond what is well-formed."""

import math
from dataclasses import dataclass
from typing import TypeAlias

from hypothesis import strategies as st


@dataclass(frozen=True)
class RawText:
    """A TEXT cell by its bytes in the database's encoding, valid or not."""

    data: bytes


Cell: TypeAlias = int | float | str | bytes | RawText | None
LEAST, MOST = -(2**63), 2**63 - 1

far_integers = st.integers(LEAST, MOST)
integers = st.sampled_from([LEAST, LEAST + 1, -(2**53) - 1, -1, 0, 1, 2, 2**31, 2**53 + 1, MOST]) | far_integers
far_reals = st.floats(allow_nan=False)
reals = st.sampled_from([math.inf, -math.inf, 5e-324, -0.0, 0.0, 0.5, 5.25, 1e308, 2.0**53, 1e15]) | far_reals
TEXTS = [
    *("", " ", "\t\n\v\f\r", "\x85\xa0\u1680\u2007\u2028\u2029\u202f\u205f\u3000"),
    *("\x1c", "\u200b", "\ufeff", "a\0b", "\0", " a "),
    *("😀", "\uffff", "\ufffe", "\ufffd", "пять", "é", "e\u0301", "x" * 700, "ж" * 700),
    *("7", "07", "+7", "7.0", "5.", ".5", "1e3", "1e400", "0x10", " 12 ", "9223372036854775808"),
    *("inf", "NaN", "True", "2024-1-2", "01.02.2024", "2024-01-02T03:04:05Z", "12:00", "NULL"),
]
texts = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
BYTES = [
    *(b"", b" ", b"\t\xc2\xa0", b"\0", b"\xff", b"\xed\xa0\x80", b"\xc3", b"a\0b", b"abc", b"7"),
    *(b"\x00\xd8", b"\x00\xd8a\x00", b"\xff\xff"),  # lone surrogates and a noncharacter of UTF-16le
]
blobs = st.sampled_from(BYTES) | st.binary(max_size=9)
raw_texts = blobs.map(lambda data: RawText(data[: len(data) // 2 * 2]))  # an even length, for UTF-16
cells: st.SearchStrategy[Cell] = st.none() | integers | reals | texts | blobs | raw_texts
far_rowids = st.sampled_from([LEAST, LEAST + 1, MOST - 6, MOST - 1, MOST]) | far_integers
rowids = st.integers(-9, 9) | far_rowids
