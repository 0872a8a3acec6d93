"""CREATE texts in pieces: without NOT NULL, so that a row that breaks one can be written; and what they mean.

Two texts mean the same where their canonical tokens are equal: white space, comments, the letter case of keywords and
names, and quotes around a name make no difference. A literal is a value and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from etl.core.model import folded

Tokens = tuple[str, ...]

_PIECE = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]"""  # a text or a quoted name
    r"""|--[^\n]*|/\*.*?(?:\*/|\Z)|[ \t\n\f\r]+|[\w$\x80-\U0010ffff]+|.""",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*")
_COLUMNS = 1
"""The depth of brackets at which columns and their constraints are; expressions are deeper."""
_EXPRESSION = 2
_LITERALS = frozenset({"null", "true", "false", "current_time", "current_date", "current_timestamp"})
_KEYWORDS = re.compile(
    "null|true|false|current_.*|always|and|as|asc|autoincrement|between|by|case|cast|check|collate|conflict|constraint|"
    "create|default|deferrable|deferred|desc|distinct|else|end|escape|exists|foreign|generated|glob|if|in|index|"
    "initially|is|isnull|key|like|match|not|notnull|on|or|primary|references|regexp|select|stored|strict|table|then|"
    "unique|virtual|when|where|without"
)
"""Words that mean something else in quotes."""
_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign"})


@dataclass(frozen=True, slots=True)
class Declaration:
    """A column of a CREATE TABLE text."""

    name: str
    tokens: Tokens
    text: str


@dataclass(frozen=True, slots=True)
class TableText:
    """A CREATE TABLE text in parts."""

    columns: tuple[Declaration, ...]
    constraints: tuple[Tokens, ...]
    options: Tokens
    """What follows the last bracket, such as STRICT."""


def without_not_null(ddl: str) -> str:
    """The text with NULL instead of NOT NULL, which is no constraint to SQLite."""
    pieces: list[str] = _PIECE.findall(ddl)
    depth, last_word = 0, 0
    for i, piece in enumerate(pieces):
        if _is_blank(piece):
            continue
        depth += (piece == "(") - (piece == ")")
        if depth == _COLUMNS and folded(piece) == "null" and folded(pieces[last_word]) == "not":
            pieces[last_word] = ""
        last_word = i
    return "".join(pieces)


def parsed(ddl: str) -> TableText:
    """The parts of a CREATE TABLE text that SQLite has accepted."""
    _, *items, options = _items(_PIECE.findall(ddl))
    first = [next(piece for piece in item if not _is_blank(piece)) for item in items]
    count = next((i for i, piece in enumerate(first) if folded(piece) in _CONSTRAINTS), len(items))
    names = [_unquoted(piece) for piece in first[:count]]
    known = {folded(name) for name in names}
    tokens = [_canonical(item, known, depth=_COLUMNS) for item in items]
    texts = ("".join(piece if not _is_blank(piece) else " " for piece in item).strip() for item in items)
    columns = tuple(map(Declaration, names, tokens, texts))
    return TableText(columns, tuple(tokens[count:]), _canonical(options, known, depth=0))


def same_index(sql: str, other: str, names: Collection[str]) -> bool:
    """Whether two CREATE INDEX texts mean the same; `names` are those of the columns, of the table and of the index."""
    if sql == other:
        return True
    known = set(map(folded, names))
    tokens, others = (_canonical(_PIECE.findall(text), known, depth=_EXPRESSION) for text in (sql, other))
    return tokens == others


def _items(pieces: Sequence[str]) -> list[list[str]]:
    """What is before the columns, each column and constraint, and what is after them."""
    items: list[list[str]] = [[]]
    depth = 0
    for piece in pieces:
        depth += (piece == "(") - (piece == ")")
        begins = piece == "(" and depth == _COLUMNS and len(items) == 1
        if begins or (piece == "," and depth == _COLUMNS) or (piece == ")" and depth == 0):
            items.append([])
        else:
            items[-1].append(piece)
    return items


def _canonical(pieces: Sequence[str], names: Collection[str], *, depth: int) -> Tokens:
    """The tokens of a text that begins at this depth of brackets."""
    tokens: list[str] = []
    for piece in pieces:
        if _is_blank(piece):
            continue
        depth += (piece == "(") - (piece == ")")
        if tokens and tokens[-1] == "default":  # a word or a name is a text there
            tokens.append(folded(piece) if folded(piece) in _LITERALS else piece)
        elif piece[0] in '"`[' and len(piece) > 1:
            name = folded(_unquoted(piece))
            # In an expression SQLite takes an unknown name in double quotes for a text.
            is_name = piece[0] != '"' or depth < _EXPRESSION or name in names
            is_plain = _WORD.fullmatch(name) and not _KEYWORDS.fullmatch(name)
            tokens.append((name if is_plain else f'"{name}"') if is_name else piece)
        else:
            tokens.append(piece if piece[0] == "'" else folded(piece))
    return tuple(tokens)


def _unquoted(piece: str) -> str:
    quote = piece[0]
    if quote == "[":
        return piece[1:-1]
    return piece[1:-1].replace(quote * 2, quote) if quote in "\"`'" else piece


def _is_blank(piece: str) -> bool:
    return piece.isspace() or piece.startswith(("--", "/*"))
