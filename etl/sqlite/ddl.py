"""A CREATE TABLE text without its NOT NULL constraints, so that a row that breaks one can be written."""

from __future__ import annotations

import re

from etl.core.model import folded

_PIECE = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]"""  # a text or a quoted name
    r"""|--[^\n]*|/\*.*?(?:\*/|\Z)|[ \t\n\f\r]+|[\w$\x80-\U0010ffff]+|.""",
    re.DOTALL,
)
_COLUMNS = 1
"""The depth of brackets at which columns and their constraints are; expressions are deeper."""


def without_not_null(ddl: str) -> str:
    """The text with NULL instead of NOT NULL, which is no constraint to SQLite."""
    pieces: list[str] = _PIECE.findall(ddl)
    depth, last_word = 0, 0
    for i, piece in enumerate(pieces):
        if piece.isspace() or piece.startswith(("--", "/*")):
            continue
        depth += (piece == "(") - (piece == ")")
        if depth == _COLUMNS and folded(piece) == "null" and folded(pieces[last_word]) == "not":
            pieces[last_word] = ""
        last_word = i
    return "".join(pieces)
