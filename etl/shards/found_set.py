"""The shard set that is found in a directory, to be read. What the settings describe: `shard_set`.

This module loads neither Polars nor a driver: an application that opens one shard needs only the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from etl.core import ranges
from etl.core.errors import EtlError, Refused
from etl.core.model import MAX_ROWID, MIN_ROWID, Identity, LedgerLine, RowidRange, Seal, ShardMap, Table
from etl.core.routing import Key, in_file_names, shard_of, shard_path
from etl.shards import ledger
from etl.sqlite import sql, stdlib


class NoShards(Refused):
    """The directory has no shards, or none of the table."""


_FILE_NAME = re.compile(r"(.+)_shard_\d{2,}\.db", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Extent:
    """What one shard holds at one moment."""

    coverage: ranges.Coverage
    """Its windows, adjacent ones merged."""
    rows: int
    """The rows of all windows."""
    last_rowid: int | None
    """The greatest rowid; None without rows."""


@dataclass(frozen=True, slots=True)
class ShardSet:
    """All shards of a table in a directory, by the identity of the first file.

    Files are opened with the standard library's SQLite, and closed again before connectorx may open them.
    """

    directory: Path
    identity: Identity

    @property
    def table(self) -> str:
        return self.identity.source_table

    @property
    def shard_map(self) -> ShardMap:
        return ShardMap(self.identity.num_shards, self.identity.reserved_shard)

    def path(self, shard: int) -> Path:
        return shard_path(self.directory, self.table, shard)

    def shard_of(self, key: Key) -> int:
        return shard_of(key, num_shards=self.identity.num_shards, reserved_shard=self.identity.reserved_shard)

    def check(self, shards: Iterable[int]) -> list[frozenset[str]]:
        """The names of each shard's columns: a run that was killed may have added a new one to some shards only.

        Raises EtlError or Refused unless each of the shards exists, belongs to this set, and serves.
        """
        columns = []
        for shard in shards:
            path = self.path(shard)
            if shard not in self.shard_map.shards:
                raise Refused(f"{self.directory}: shard {shard}: expected one of {_listed(self.shard_map.shards)}")
            if not path.is_file():
                rebuild = "run the migration again, which rebuilds only this shard"
                way_out = "restore it from a backup" if self.identity.seal else rebuild
                raise EtlError(
                    f"{path}: expected shard {shard} of {len(self.shard_map.shards)}, found no file; {way_out}"
                )
            with stdlib.shard(path) as database:
                found = ledger.identity(database, path)
                serves = ledger.serves(database)
                columns.append(frozenset(name for _, name, *_ in database.execute(sql.columns(self.table))))
            # A file may have moved between two runs; a run that adds columns takes one shard after the other.
            if found != replace(self.identity, shard=shard).with_changes_of(found):
                raise Refused(
                    f"{path}: expected shard {shard} of table {self.table}, found a shard of another set; move it away"
                )
            if not serves:
                raise EtlError(f"{path}: this shard is not finished; let the migration end, or run it again")
        return columns

    def seals(self) -> list[Seal]:
        """The seal of each shard, by slot. Raises as `check` and `seal` do."""
        self.check(self.shard_map.shards)
        return [self.seal(shard) for shard in self.shard_map.shards]

    def seal(self, shard: int) -> Seal:
        """Raises Refused where the shard is not sealed."""
        path = self.path(shard)
        with stdlib.shard(path) as database:
            seal = ledger.identity(database, path).seal
        if seal is None:
            raise Refused(f"{path}: expected a sealed shard, found one that runs write to; run cutover first")
        return seal

    def ledger(self, shard: int) -> list[LedgerLine]:
        """The shard's windows, ascending."""
        with stdlib.shard(self.path(shard)) as database:
            return ledger.lines(database)

    def extent(self, shard: int, table: Table) -> Extent:
        """What the shard holds now, read in one snapshot."""
        with stdlib.shard(self.path(shard)) as database:
            database.execute("BEGIN")
            coverage, rows = ledger.coverage(database)
            _, last_rowid = database.execute(sql.ends(table)).fetchone()
        return Extent(coverage, rows, last_rowid)

    def common(self, coverages: Sequence[ranges.Coverage]) -> ranges.Coverage:
        """Every rowid except those of windows that only some of the shards have: a run is still writing them.

        Rowids beyond all windows are included, for an application may have added its own rows since.
        """
        anywhere = ranges.union(window for coverage in set(coverages) for window in coverage)
        whole = (RowidRange(MIN_ROWID, MAX_ROWID),)
        return ranges.subtract(whole, ranges.subtract(anywhere, ranges.common(coverages)))


def find(shard_dir: Path, table: str | None = None) -> ShardSet:
    """The shard set in the directory; `table` names it where there are several.

    Raises NoShards, or Refused where there are several and no `table`.
    """
    names: dict[str, Path] = {}
    for path in sorted(shard_dir.glob("*_shard_*.db")):
        if match := _FILE_NAME.fullmatch(path.name):
            names.setdefault(match[1], path)
    if table is not None:
        names = {name: path for name, path in names.items() if name == in_file_names(table)}
    if not names:
        wanted = f"shards of {table}" if table else "shards"
        raise NoShards(f"{shard_dir}: expected {wanted}, found none; give the SHARD_DIR of a finished migration")
    if len(names) > 1:
        raise Refused(f"{shard_dir}: shards of several tables ({', '.join(sorted(names))}); say which with table=")
    (path,) = names.values()
    with stdlib.shard(path) as database:
        return ShardSet(shard_dir, ledger.identity(database, path))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) <= 3 else f"{numbers[0]}, {numbers[1]} … {numbers[-1]}"  # noqa: PLR2004 - as many as read at a glance
