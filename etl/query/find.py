"""Finds the shards with rows that have a value, through their indexes. Needs the standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from etl.core.errors import Refused
from etl.core.model import MAX_ROWID, MIN_ROWID, Affinity, folded
from etl.query import sql
from etl.query.open_shard import found_shards
from etl.shards.found_set import ShardSet
from etl.sources.schema import affinity
from etl.sqlite import stdlib
from etl.sqlite.file_lock import SHARDS
from etl.sqlite.sql import SELECT_SCHEMA, columns

Value: TypeAlias = str | bytes | int | float | None
_MAX_EXACT = 2**53
"""Below it an INTEGER or NUMERIC column stores a whole number as an integer, never as a real."""


def find(*, shard_dir: str | Path | None = None, table: str | None = None, **values: Value) -> list[int]:
    """The shards that have a row with this value: `find(INN="7712345678")`; of several values, a row with all of them.

    Values are compared as SQLite compares them with the column: `7` finds `'7'` in a TEXT column, None finds NULL, and
    the column's collation counts. A column with an odd name: `find(**{"two words": 7})`.

    A value of the key column reads one shard only, unless other spellings of it may be in other shards (a real, a
    collation). Other values are searched in every shard: through an index about a millisecond each, without one by
    reading its whole table. Without `shard_dir`, settings count as in `open_shard`.

    Raises Refused for an unknown column or a value that SQLite does not have; Refused or EtlError if a shard that is
    searched is missing, not finished, or of another set.
    """
    for name, value in values.items():
        if not _is_stored(value):
            raise Refused(
                f"{name}=: expected None, UTF-8 text, bytes or a number of 64 bits, found {type(value).__name__}"
            )
    with SHARDS.exclusive():
        found = found_shards(shard_dir, table)
        shards = _shards_to_search(found, values)
        names = frozenset[str].intersection(*found.check(shards))
        if not values or {*map(folded, values)} - {*map(folded, names)}:
            raise Refused(
                f"{found.directory}: find({', '.join(values)}): expected columns of {found.table}: {sorted(names)}"
            )
        return [shard for shard in shards if _has_row(found.path(shard), sql.has_row(found.table, values), values)]


def _is_stored(value: object) -> bool:
    """Whether SQLite has such values."""
    match value:
        case int():
            return MIN_ROWID <= value <= MAX_ROWID
        case str():
            return not re.search("[\ud800-\udfff]", value)
    return value is None or isinstance(value, float | bytes)


def _shards_to_search(found: ShardSet, values: Mapping[str, Value]) -> Sequence[int]:
    """All shards; or one, where all rows with this value of the key column are in it."""
    for name, value in values.items():
        if folded(name) == folded(found.identity.shard_key):
            shard = found.shard_of(value)
            found.check([shard])
            with stdlib.shard(found.path(shard)) as database:
                types = {folded(column): declared for _, column, declared, *_ in database.execute(columns(found.table))}
                texts = [text for _, table, text in database.execute(SELECT_SCHEMA) if table == found.table]
            has_collation = any("collate" in folded(text) for text in texts)  # which makes different keys equal
            if not has_collation and _is_spelled_once(value, types[folded(name)]):
                return [shard]
    return found.shard_map.shards


def _is_spelled_once(value: Value, declared: str) -> bool:
    """Whether all cells of the key column that are equal to the value have one text, its own, and so one shard."""
    match value, affinity(declared, strict=False):
        case (None | bytes(), _) | (str(), Affinity.TEXT | Affinity.BLOB) | (int(), Affinity.TEXT):
            return True
        case str(), Affinity.INTEGER | Affinity.NUMERIC:
            return re.fullmatch("0|-?[1-9][0-9]{0,14}", value) is not None
        case int(), Affinity.INTEGER | Affinity.NUMERIC:
            # A STRICT column of type ANY may have 7.0 beside 7.
            return abs(value) < _MAX_EXACT and folded(declared) != "any"
    return False


def _has_row(path: Path, statement: str, values: Mapping[str, Value]) -> bool:
    with stdlib.shard(path) as database:
        ((found,),) = database.execute(statement, tuple(values.values()))
    return bool(found)
