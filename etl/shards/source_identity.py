"""Whether the source is still the file that the shards were made from: some rows of the shards are searched in it.

A shard's rows and its ledger line commit together, so the shards themselves keep the rows to compare; nothing else is
stored. A path proves nothing: a moved file is the same source, a restored one is not.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, cast

from etl.core.errors import EtlError, Refused
from etl.core.model import Table
from etl.runtime import log
from etl.shards.checkpoint import Checkpoint, Each, R, T
from etl.shards.contents import ShardContents
from etl.shards.shard import Shard
from etl.sqlite import sql, stdlib
from etl.sqlite.adbc import Connection

COMPARED_ROWS = 16
"""The number of last rows of the shards that are compared, and the number of rows at random."""

_SHARDS = 8
_ROWS = 4
_SHOWN = 5

Row = tuple[Any, ...]


class Fate(Enum):
    """What a shard's row is in the source now."""

    KEPT = "kept"
    UPDATED = "updated"
    """Its key and half of its cells are the same: the application changed the row."""
    OTHER = "other"
    """Another row has its rowid: the file was replaced or restored, or VACUUM changed the rowids."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Fates:
    """Some rows: rowid → fate."""

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
    path: Path, table: Table, shards: Sequence[Shard], found: Checkpoint, each: Each, *, force: bool
) -> str | None:
    """Before a load: raises Refused where the source is another file. Returns a warning where some rows changed.

    With `force` the refusal becomes a warning.
    """
    mismatch, warning = _compare(path, table, shards, found.found, each)
    if mismatch is None:
        return warning
    if force:
        return mismatch
    raise Refused(
        f"{mismatch}; bring the file back, or load it again into an empty SHARD_DIR; --force loads only rows above "
        "the highest rowid of the last run"
    )


def check_for_verification(
    path: Path,
    table: Table,
    shards: Sequence[Shard],
    found: Sequence[ShardContents | None],
    *,
    repair: bool,
    force: bool,
) -> tuple[str, ...]:
    """Before a verification: the warning that a load would refuse this source. All readable shards are compared.

    Raises Refused where the shards are to be repaired from that source, unless forced.
    """
    mismatch, _ = _compare(path, table, shards, found, each_readable)
    if mismatch is None:
        return ()
    if not repair:
        return (f"{mismatch}; migrate and --repair refuse it without --force",)
    if not force:
        raise Refused(
            f"{mismatch}; check that it is the right source; if it is, --repair --force makes the shards like it"
        )
    log.event("forced", "WARNING", although=mismatch)
    return ()


def each_readable(work: Callable[[T], R], items: Iterable[T], /) -> list[R]:
    """Calls a function for each shard; None for one that cannot be read: the verification itself reports it."""

    def attempt(item: T) -> R | None:
        try:
            return work(item)
        except EtlError:
            return None

    with ThreadPoolExecutor(2, thread_name_prefix="etl") as pool:
        return cast("list[R]", list(pool.map(attempt, items)))


def _compare(
    path: Path, table: Table, shards: Sequence[Shard], found: Sequence[ShardContents | None], each: Each
) -> tuple[str | None, str | None]:
    """What shows that the source is another file than before; or else a warning where some rows changed.

    It is another file where most of the shards' last rows are gone from it or are other rows now: new rows would get
    rowids that count as done. The same holds where it has other rows at most of the rowids taken at random.
    Old rows that are gone, and rows that were updated, are the application's business and stop no run.
    Shards without rows are skipped.
    """
    with_rows = [
        (shard, contents.last_row)
        for shard, contents in zip(shards, found, strict=True)
        if contents and contents.last_row is not None
    ]
    latest = sorted(with_rows, key=lambda pair: pair[1], reverse=True)[:_SHARDS]
    last_rows: dict[int, Row] = {}
    for rows in each(lambda pair: _last_rows(*pair, table), latest):
        last_rows |= rows or {}
    last_rows = dict(sorted(last_rows.items())[-COMPARED_ROWS:])
    some_rows: dict[int, Row] = {}
    for rows in each(lambda pair: _some_rows(*pair, table), random.sample(with_rows, min(_SHARDS, len(with_rows)))):
        some_rows |= rows or {}
    some_rows = dict(list(some_rows.items())[:COMPARED_ROWS])
    if not last_rows:
        return None, None
    with stdlib.source(path) as database:
        last = Fates({rowid: _fate(table, row, database, rowid) for rowid, row in last_rows.items()})
        some = Fates({rowid: _fate(table, row, database, rowid) for rowid, row in some_rows.items()})
    lost = sorted({*last.of(Fate.GONE, Fate.OTHER), *some.of(Fate.OTHER)})
    compared = len(last.by_rowid.keys() | some.by_rowid.keys())
    if last.mostly(Fate.GONE, Fate.OTHER) or some.without(Fate.GONE).mostly(Fate.OTHER):
        mismatch = (
            f"SOURCE_DB={path}: expected the rows that the shards were made from, found others or none at "
            f"{len(lost)} of {compared} rowids compared "
            f"({_shown(lost)}): the file was replaced, restored or shrunk, or a VACUUM changed its rowids"
        )
        return mismatch, None
    if lost:
        return None, (
            f"SOURCE_DB={path}: {len(lost)} of {compared} rows compared are not the rows that the shards have "
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
        starts = [random.randint(first, last) for _ in range(_ROWS)]  # noqa: S311 - a sample, no secret
        found = [row for start in starts for row in connection.execute(sql.rowid_from(table, start))]
        return _rows(connection, table, [rowid for (rowid,) in found])


def _rows(connection: Connection, table: Table, rowids: Sequence[int]) -> dict[int, Row]:
    # One row at a time: the driver takes a result's types from its first row, and rounds later cells of other types.
    return {rowid: connection.execute(sql.beginnings(table, rowid))[0] for rowid in rowids}


def _fate(table: Table, row: Row, database: sqlite3.Connection, rowid: int) -> Fate:
    now: Row | None = database.execute(sql.beginnings(table, rowid)).fetchone()
    if now is None:
        return Fate.GONE
    same = [type(before) is type(after) and before == after for before, after in zip(row, now, strict=True)]
    if all(same):
        return Fate.KEPT
    key_kept = table.key not in table.written or same[table.written.index(table.key)]
    return Fate.UPDATED if key_kept and 2 * sum(same) >= len(same) else Fate.OTHER
