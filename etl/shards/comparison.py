"""A shard compared with its source by SQLite itself: every cell by value and storage class, without a hash.

A read-only connection to the source attaches shards and joins each with it by rowid. The answer says of each row of
the shard whether the source has the same cells; the row's key comes with it and is routed as in a load. While a
connection is open, no other copy of SQLite in this process may open either file.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from etl.core import partition
from etl.core.columns import TAGS
from etl.core.errors import EtlError
from etl.core.model import Affinity, RowidRange, ShardMap, Table
from etl.runtime import limits
from etl.shards import sql
from etl.shards.ledger_arrays import Numbers
from etl.sqlite.adbc import Connection, ShardError
from etl.sqlite.sql import quote, variant_cells
from etl.sqlite.stdlib import read_only_uri

ABSENT, CHANGED, SAME = 0, 1, 2
"""What the source has of a shard's row: no row with its rowid, one with other cells, the same."""
SHARDS_AT_ONCE = 10
"""SQLite attaches so many files to a connection (SQLITE_MAX_ATTACHED)."""
BLOCK_BYTES = 32 << 20
"""Rows are compared by so many bytes of the source: what one shard reads of it is still cached for the next."""
_SOURCE_CACHE_KIB = BLOCK_BYTES * 5 // 4 >> 10
_BATCH_ROWS = 65_536
_LARGE_ROW_BYTES = 256
"""Larger rows, which may have larger keys, come in smaller batches."""


@dataclass(frozen=True, slots=True)
class ComparedRows:
    """Rows of a shard, or all of the source, ascending; every array has the shape (rows,)."""

    rowids: Numbers
    slots: npt.NDArray[np.uint16]
    """The slot of each row's key."""
    states: Numbers
    """ABSENT, CHANGED or SAME."""

    @classmethod
    def joined(cls, parts: Sequence[ComparedRows]) -> ComparedRows:
        return cls(
            np.concatenate([np.empty(0, np.int64), *(part.rowids for part in parts)]),
            np.concatenate([np.empty(0, np.uint16), *(part.slots for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.states for part in parts)]),
        )


class Comparison:
    """The source of one comparison, and how its rows are routed."""

    def __init__(
        self, source: Path, table: Table, shard_map: ShardMap, rowids: RowidRange | None, utf8: partition.ToUtf8 | None
    ) -> None:
        """`rowids` are those of the source; `utf8` as in `partition.keys`."""
        self._source = source
        self._table = table
        self._map = shard_map
        row_bytes = source.stat().st_size / rowids.span if rowids else 1.0
        self._batch_rows = max(1, int(_BATCH_ROWS / max(1.0, row_bytes / _LARGE_ROW_BYTES)))
        self._utf8 = utf8

    def open(self) -> Connection:
        """The source."""
        return Connection(self._source, cache_kib=_SOURCE_CACHE_KIB, uri=read_only_uri(self._source))

    def attach(self, connection: Connection, path: Path, number: int) -> None:
        """Adds a shard under a number below SHARDS_AT_ONCE. The connection's shards share the source's page cache."""
        connection.attach(path, sql.shard_schema(number), mode="rw", cache_kib=limits.cache_kib(1))

    def rows(
        self, connection: Connection, path: Path, number: int, piece: RowidRange
    ) -> Generator[ComparedRows, None, None]:
        """The rows in a range of the shard that was attached under this number.

        Raises ShardError where the shard cannot be read, EtlError where the source cannot.
        """
        try:
            yield from self._rows(connection, sql.compared(self._table, number, self._key("m"), piece), path)
        except ShardError as error:
            if error.is_locked:  # either file, and neither is damaged
                raise EtlError(str(error)) from None
            self._check_source(connection, piece)
            raise

    def source_rows(self, connection: Connection, piece: RowidRange) -> Iterator[ComparedRows]:
        """All rows of the source in a range, with the slots where they belong."""
        try:
            yield from self._rows(connection, sql.source_keys(self._table, self._key("s"), piece), self._source)
        except ShardError as error:
            raise self._source_error(error) from None

    def chosen_rows(self, connection: Connection, rowids: Numbers) -> ComparedRows:
        """The source's rows at these rowids, with the slots where they belong."""
        fill(connection, rowids)
        try:
            statement = sql.chosen_keys(self._table, self._key("s"))
            return ComparedRows.joined(list(self._rows(connection, statement, self._source)))
        except ShardError as error:
            raise self._source_error(error) from None

    def chosen_states(
        self, connection: Connection, path: Path, number: int, rowids: Numbers
    ) -> tuple[Numbers, Numbers]:
        """The chosen rowids (`fill`) that the attached shard has, and the state of each; raises as `rows`."""
        statement = sql.compared_chosen(self._table, number)
        try:
            batches = connection.batches(statement, rows=_BATCH_ROWS, path=path)
            parts = [np.stack([column.to_numpy() for column in batch.columns]) for batch in batches]
        except ShardError as error:
            if error.is_locked:
                raise EtlError(str(error)) from None
            self._check_source(connection, RowidRange(int(rowids[0]), int(rowids[-1])))
            raise
        found, states = np.concatenate([np.empty((2, 0), np.int64), *parts], axis=1)
        return found, states

    def count(self, connection: Connection, piece: RowidRange) -> int:
        """How many rows the source has in a range."""
        try:
            return int(connection.execute(sql.source_count(self._table, piece))[0][0])
        except ShardError as error:
            raise self._source_error(error) from None

    @contextmanager
    def reading_source(self) -> Iterator[None]:
        """Raises EtlError where a statement of the block, which reads only the source, fails."""
        try:
            yield
        except ShardError as error:
            raise self._source_error(error) from None

    def version(self, connection: Connection) -> int:
        """A number that another one follows when a program has changed the source meanwhile."""
        return int(connection.pragma("data_version"))

    def _rows(self, connection: Connection, statement: str, path: Path) -> Iterator[ComparedRows]:
        for batch in connection.batches(statement, rows=self._batch_rows, path=path):
            frame = pl.DataFrame(pl.from_arrow(batch))
            keys = self._keys(frame)
            yield ComparedRows(frame["rowid"].to_numpy(), partition.slots(keys, self._map), frame["state"].to_numpy())

    @property
    def _is_text(self) -> bool:
        """Whether every key is text or NULL, in UTF-8 where the file is sound."""
        return self._table.key.affinity is Affinity.TEXT and self._table.encoding == "UTF-8"

    def _key(self, alias: str) -> dict[str, str]:
        """The expressions of a row's key: never NULL, for ADBC takes a column's type from its first rows."""
        key = self._table.key
        if key.name == self._table.rowid_column:
            return {}
        # A computed key is taken from the source, as a load does; of an absent row it is empty.
        cell = f"{'s' if key.generated else alias}.{quote(key.name)}"
        if self._is_text:
            return {"key": f"ifnull(CAST({cell} AS BLOB), x'')"}
        tag, integer, real, data = variant_cells(cell)
        return {
            "tag": tag,
            "integer": f"ifnull({integer}, 0)",
            "real": f"ifnull({real}, 0.0)",
            "key": f"ifnull({data}, x'')",
        }

    def _keys(self, frame: pl.DataFrame) -> pl.Series:
        if "key" not in frame.columns:
            return partition.integer_keys(frame["rowid"])
        keys = frame["key"]
        if "tag" in frame.columns:
            tag = frame["tag"]
            real = frame["real"].set(tag != TAGS["real"], None)
            return partition.variant_keys([tag, frame["integer"], real, keys], self._utf8)
        try:
            return keys.cast(pl.String)  # a blank text is found much faster than blank bytes
        except pl.exceptions.ComputeError:
            return keys  # one of them is no UTF-8

    def _check_source(self, connection: Connection, piece: RowidRange) -> None:
        """Raises EtlError where the source is the file that cannot be read: it is compared with itself."""
        try:
            for _ in connection.batches(sql.source_compared(self._table, piece), rows=self._batch_rows):
                pass
        except ShardError as error:
            raise self._source_error(error) from None

    def _source_error(self, error: ShardError) -> EtlError:
        reason = str(error).partition("failed (")[2].partition(");")[0]
        return self._error(f"reading failed ({reason}); nothing is lost, run again when the source can be read")

    def _error(self, what: str) -> EtlError:
        return EtlError(f"SOURCE_DB={self._source}, TABLE_NAME={self._table.name}: {what}")


def fill(connection: Connection, rowids: Numbers) -> None:
    """Makes these the chosen rowids of the statements in `shards.sql`; ascending, none twice."""
    connection.execute(sql.CREATE_ROWIDS)
    connection.execute(sql.CLEAR_ROWIDS)
    connection.executemany(sql.INSERT_ROWID, pa.table({"id": rowids}))
