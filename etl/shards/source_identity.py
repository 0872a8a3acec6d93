"""Whether the source is still the one that the shards were made from: rows of the shards are looked for in it.

A shard's rows and its ledger line commit together, so the shards themselves keep what a window's boundary rows were;
nothing is stored beside them. A path proves nothing either way: a moved file is the same source, a restored one is not.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from etl.core.errors import Refused
from etl.core.model import Table
from etl.shards.checkpoint import Checkpoint, Each
from etl.shards.shard import Found, Shard
from etl.sqlite import sql, stdlib
from etl.sqlite.adbc import Connection

LOOKED_AT = 16
"""How many of the last rows that the shards have are looked for in the source, and how many taken at random."""

_SHARDS = 8
_ROWS = 4
_SHOWN = 5

Row = tuple[Any, ...]


class Fate(Enum):
    """What became of a shard's row in the source."""

    KEPT = "kept"
    UPDATED = "updated"
    """Its key and half of its cells are as they were: a row that the application changed."""
    OTHER = "other"
    """Another row has its rowid: the file was replaced or restored, or VACUUM dealt out new rowids."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of some rows: rowid → fate."""

    by_rowid: Mapping[int, Fate]

    def of(self, *fates: Fate) -> list[int]:
        """The rowids with one of these fates, ascending."""
        return sorted(rowid for rowid, fate in self.by_rowid.items() if fate in fates)

    def mostly(self, *fates: Fate) -> bool:
        """Whether more than half of the rows have one of these fates."""
        return 2 * len(self.of(*fates)) > len(self.by_rowid)

    def without(self, fate: Fate) -> Fates:
        """The rows with another fate."""
        return Fates({rowid: each for rowid, each in self.by_rowid.items() if each is not fate})


def check(
    path: Path, table: Table, shards: Sequence[Shard], stock: Checkpoint, each: Each, *, force: bool
) -> str | None:
    """Raises Refused where the source is another one than before; a warning where some of the rows looked at changed.

    With `force` the refusal is a warning, too.
    """
    mismatch, warning = look(path, table, shards, stock.found, each)
    if mismatch is None:
        return warning
    if force:
        return mismatch
    raise Refused(
        f"{mismatch}; bring the file back, or load it anew into an empty SHARD_DIR; --force takes only what is above "
        "the highest rowid of the last run"
    )


def look(
    path: Path, table: Table, shards: Sequence[Shard], found: Sequence[Found | None], each: Each
) -> tuple[str | None, str | None]:
    """What shows that the source is another one than before, or else a warning where some of the rows changed.

    It is another one where most of the last rows that the shards have are gone from it or other rows now: new rows
    would get rowids that count as done. So it is where most of the rows taken at random that it has are other ones.
    Old rows that are gone, and rows that were updated, are the application's business and stop no run.
    `found` is what each shard holds. Nothing is asked of a shard without rows.
    """
    with_rows = [
        (shard, here.last_row) for shard, here in zip(shards, found, strict=True) if here and here.last_row is not None
    ]
    latest = sorted(with_rows, key=lambda pair: pair[1], reverse=True)[:_SHARDS]
    last_rows: dict[int, Row] = {}
    for rows in each(lambda pair: _last_rows(*pair, table), latest):
        last_rows |= rows or {}
    last_rows = dict(sorted(last_rows.items())[-LOOKED_AT:])
    some_rows: dict[int, Row] = {}
    for rows in each(lambda pair: _some_rows(*pair, table), random.sample(with_rows, min(_SHARDS, len(with_rows)))):
        some_rows |= rows or {}
    some_rows = dict(list(some_rows.items())[:LOOKED_AT])
    if not last_rows:
        return None, None
    with stdlib.source(path) as database:
        last = Fates({rowid: _fate(table, row, database, rowid) for rowid, row in last_rows.items()})
        some = Fates({rowid: _fate(table, row, database, rowid) for rowid, row in some_rows.items()})
    lost = sorted({*last.of(Fate.GONE, Fate.OTHER), *some.of(Fate.OTHER)})
    looked_at = len(last.by_rowid.keys() | some.by_rowid.keys())
    if last.mostly(Fate.GONE, Fate.OTHER) or some.without(Fate.GONE).mostly(Fate.OTHER):
        mismatch = (
            f"SOURCE_DB={path}: expected the rows that the shards were made from, found others or none at "
            f"{len(lost)} of {looked_at} rowids looked at "
            f"({_shown(lost)}): the file was replaced, restored or shrunk, or a VACUUM changed its rowids"
        )
        return mismatch, None
    if lost:
        return None, (
            f"SOURCE_DB={path}: {len(lost)} of {looked_at} rows looked at are not the rows that the shards have "
            f"(rowids {_shown(lost)}): rows were deleted, their keys changed, or rowids were used again after a backup "
            "was restored; python -m etl.verify finds all rows that differ"
        )
    return None, None


def _shown(rowids: Sequence[int]) -> str:
    return ", ".join(map(str, rowids[:_SHOWN])) + (", …" if len(rowids) > _SHOWN else "")


def _last_rows(shard: Shard, last: int, table: Table) -> dict[int, Row]:
    with shard.opened() as connection:
        rowids = [rowid for (rowid,) in connection.execute(sql.last_rowids(table, last, rows=_ROWS))]
        return _rows(connection, table, rowids)


def _some_rows(shard: Shard, last: int, table: Table) -> dict[int, Row]:
    with shard.opened() as connection:
        ((first,),) = connection.execute(sql.first_rowid(table))
        dice = [random.randint(first, last) for _ in range(_ROWS)]  # noqa: S311 - a sample, no secret
        found = [row for number in dice for row in connection.execute(sql.rowid_from(table, number))]
        return _rows(connection, table, [rowid for (rowid,) in found])


def _rows(connection: Connection, table: Table, rowids: Sequence[int]) -> dict[int, Row]:
    # A row at a time: the driver takes a result's types from its first row, and rounds where a later one differs.
    return {rowid: connection.execute(sql.cells(table, rowid))[0] for rowid in rowids}


def _fate(table: Table, row: Row, database: sqlite3.Connection, rowid: int) -> Fate:
    now: Row | None = database.execute(sql.cells(table, rowid)).fetchone()
    if now is None:
        return Fate.GONE
    same = [type(before) is type(after) and before == after for before, after in zip(row, now, strict=True)]
    if all(same):
        return Fate.KEPT
    key_kept = table.key not in table.written or same[table.written.index(table.key)]
    return Fate.UPDATED if key_kept and 2 * sum(same) >= len(same) else Fate.OTHER
