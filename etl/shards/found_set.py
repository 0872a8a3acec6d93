"""The shards of one directory as they are found: which table, which files, whether each is whole. Read-only.

Each file is looked at through the standard library's SQLite and closed again, before connectorx may open it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from etl.core import ranges
from etl.core.errors import EtlError, Refused
from etl.core.model import (
    IDENTITY_TABLE,
    MAX_ROWID,
    MIN_ROWID,
    WINDOWS_TABLE,
    Identity,
    LedgerLine,
    RowidRange,
    ShardMap,
    Table,
)
from etl.core.routing import Key, in_file_names, shard_of, shard_path
from etl.shards import ledger
from etl.sqlite import sql, stdlib

_FILE_NAME = re.compile(r"(.+)_shard_\d{2,}\.db", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ShardSet:
    """All shards of one table, by the identity that the first of them gives."""

    directory: Path
    identity: Identity

    @property
    def table(self) -> str:
        """The table in each shard."""
        return self.identity.source_table

    @property
    def shard_map(self) -> ShardMap:
        """Which shards there are."""
        return ShardMap(self.identity.num_shards, self.identity.reserved_shard)

    def path(self, shard: int) -> Path:
        """The shard's file."""
        return shard_path(self.directory, self.table, shard)

    def shard_of(self, key: Key) -> int:
        """The shard of one key."""
        return shard_of(key, num_shards=self.identity.num_shards, reserved_shard=self.identity.reserved_shard)

    def check(self, shards: Iterable[int]) -> None:
        """Raises EtlError or Refused unless each of the shards is there, is one of this set, and serves."""
        for shard in shards:
            path = self.path(shard)
            if shard not in self.shard_map.shards:
                raise Refused(f"{self.directory}: shard {shard}: expected one of {_listed(self.shard_map.shards)}")
            if not path.is_file():
                raise EtlError(
                    f"{path}: expected shard {shard} of {len(self.shard_map.shards)}, found no file; run the migration "
                    "again, which rebuilds it alone"
                )
            with stdlib.shard(path) as database:
                found = _identity(database, path)
                serves = database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            if found != replace(self.identity, shard=shard):
                raise Refused(f"{path}: expected shard {shard} of {self.table}'s set, found another's; move it away")
            if not serves:
                raise EtlError(f"{path}: this shard is not finished; let the migration end, or run it again")

    def ledger(self, shard: int) -> list[LedgerLine]:
        """The shard's windows, ascending."""
        with stdlib.shard(self.path(shard)) as database:
            rows = database.execute(ledger.windows_outside(())).fetchall()
        return [LedgerLine(RowidRange(first, last), *rest) for first, last, *rest in rows]

    def extent(self, shard: int, table: Table) -> Extent:
        """What the shard holds now, all of it at one moment."""
        with stdlib.shard(self.path(shard)) as database:
            database.execute("BEGIN")  # one snapshot for both
            islands = database.execute(ledger.SELECT_COVERAGE).fetchall()
            _, last_rowid = database.execute(sql.ends(table)).fetchone()
        coverage = tuple(RowidRange(first, last) for first, last, _ in islands)
        return Extent(coverage, sum(rows for _, _, rows in islands), last_rowid)

    def common(self, coverages: Sequence[ranges.Coverage]) -> ranges.Coverage:
        """Every rowid but those of windows that some of the shards have and others lack: of a run on its way.

        Rowids beyond all windows are included, for an application may have added rows of its own since.
        """
        anywhere = ranges.union(window for coverage in set(coverages) for window in coverage)
        whole = (RowidRange(MIN_ROWID, MAX_ROWID),)
        return ranges.subtract(whole, ranges.subtract(anywhere, ranges.common(coverages)))


@dataclass(frozen=True, slots=True)
class Extent:
    """What one shard holds at one moment."""

    coverage: ranges.Coverage
    """Its windows, adjacent ones merged."""
    rows: int
    """All rows of the windows."""
    last_rowid: int | None
    """The greatest rowid; None without rows."""


def find(shard_dir: Path, table: str | None = None) -> ShardSet:
    """The set of shards in the directory; `table` says which, where there are several.

    Raises Refused where there is none, or more than one and no `table`.
    """
    names: dict[str, Path] = {}
    for path in sorted(shard_dir.glob("*_shard_*.db")):
        if match := _FILE_NAME.fullmatch(path.name):
            names.setdefault(match[1], path)
    if table is not None:
        names = {name: path for name, path in names.items() if name == in_file_names(table)}
    if not names:
        wanted = f"shards of {table}" if table else "shards"
        raise Refused(f"{shard_dir}: expected {wanted}, found none; give the SHARD_DIR of a finished migration")
    if len(names) > 1:
        raise Refused(f"{shard_dir}: shards of several tables ({', '.join(sorted(names))}); say which with table=")
    (path,) = names.values()
    with stdlib.shard(path) as database:
        return ShardSet(shard_dir, _identity(database, path))


def _identity(database: sqlite3.Connection, path: Path) -> Identity:
    names = {name for (name,) in database.execute(sql.SELECT_NAMES)}
    if not {IDENTITY_TABLE, WINDOWS_TABLE} <= names:
        raise EtlError(f"{path}: expected a shard, found a file without its identity; migrate again, or move it away")
    rows = database.execute(ledger.SELECT_IDENTITY).fetchall()
    if [len(row) for row in rows] != [len(fields(Identity))]:
        raise Refused(f"{path}: expected a shard of this version's format, found another; move it away")
    return Identity(*rows[0])


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) <= 3 else f"{numbers[0]}, {numbers[1]} … {numbers[-1]}"  # noqa: PLR2004 - as many as read at a glance
