"""A shard read without a trace: no lock, no recovery of a journal, no new file beside it.

SQLite's `immutable=1` reads a file as it is on disk, which is correct while no program writes to it. A file that a live
or a killed run has half written is not read at all: the manifest says what every shard had before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote as url_quote

from etl.core import ranges
from etl.core.errors import EtlError
from etl.core.model import Identity, Index, LedgerLine, Table
from etl.runtime import limits
from etl.shards.contents import ShardContents, ShardIndexes
from etl.shards.shard import Shard
from etl.sqlite import stdlib
from etl.sqlite.adbc import Connection, ShardError

_WAL_FORMAT = b"\x02\x02"
"""Bytes 18 and 19 of the header of a file in WAL mode (https://sqlite.org/fileformat2.html, 1.3.3)."""


def opened(path: Path) -> Connection:
    """The file, opened without a trace."""
    # A -wal with content belongs to another program that has the shard open: then read as that program does.
    mode = "mode=ro" if stdlib.bytes_beside(path, "-wal") else "immutable=1"
    uri = f"file:{url_quote(os.fsencode(path.absolute()))}?{mode}"
    return Connection(path, cache_kib=limits.cache_kib(1), uri=uri)


def is_half_written(path: Path) -> bool:
    """Whether a run is in the middle of a transaction, or was killed in one: the next run rolls it back."""
    return stdlib.bytes_beside(path, "-journal") > 0  # in TRUNCATE mode it is empty between transactions


class Known:
    """What the manifest says of the shards: their windows and rows."""

    def __init__(self, coverage: ranges.Coverage, rows: Mapping[int, int], *, run_at_work: bool) -> None:
        self.coverage = coverage
        self.rows = rows
        """Shard number → rows."""
        self.run_at_work = run_at_work


class ReadOnlyShard(Shard):
    """One shard's file, read without a trace."""

    def __init__(self, path: Path, table: Table, identity: Identity) -> None:
        super().__init__(path, table, identity)
        self._number = identity.shard
        self.known = Known((), {}, run_at_work=False)
        self.is_half_written = False
        """Whether `find` answered by the manifest, because the file is in the middle of a write."""

    def find(self, indexes: Sequence[Index]) -> ShardContents | None:
        """What the file holds; what the manifest says where a run is at work, or was killed within a write."""
        if self.known.run_at_work or is_half_written(self.path):
            return self._by_manifest()
        try:
            return super().find(indexes)
        except ShardError:
            return self._by_manifest()  # a run has just begun; if the file is damaged, the next run says so

    def windows_outside(self, coverage: ranges.Coverage) -> list[LedgerLine]:
        """The ledger's lines that are in no range of the coverage; none where the file is half written."""
        if self.is_half_written:
            return []
        try:
            return super().windows_outside(coverage)
        except ShardError:
            return []  # as above

    def _by_manifest(self) -> ShardContents | None:
        if not self.path.is_file():
            return None
        self.is_half_written = True
        rows = self.known.rows.get(self._number, 0)
        return ShardContents(self.known.coverage, rows, ShardIndexes(), serves=False, first_run=None)

    def opened(self) -> Connection:
        return opened(self.path)

    def _serves(self, connection: Connection) -> bool:
        # `immutable=1` hides the journal mode. No other SQLite of this process has the file open.
        if stdlib.bytes_beside(self.path, "-wal"):
            return super()._serves(connection)
        try:
            with self.path.open("rb") as file:
                return file.read(20)[18:] == _WAL_FORMAT
        except OSError as error:
            raise EtlError(f"{self.path}: cannot be read ({error.strerror}); check its permissions") from None
