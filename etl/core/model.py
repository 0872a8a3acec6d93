"""The values that all other modules use, all frozen."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from enum import Enum

_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

IDENTITY_TABLE = "_etl_identity"
WINDOWS_TABLE = "_etl_windows"
SCHEMA_TABLE = "_etl_schema"
"""The tables that a shard has besides the migrated one."""

MIN_ROWID = -(2**63)
MAX_ROWID = 2**63 - 1


def folded(name: str) -> str:
    """The name as SQLite compares it: letter case counts, except that of ASCII letters."""
    return name.translate(_ASCII_LOWER)


@dataclass(frozen=True, slots=True, order=True)
class RowidRange:
    """The closed range `first_rowid ≤ rowid ≤ last_rowid`. A window is such a range; so is each partition of one."""

    first_rowid: int
    last_rowid: int

    def __post_init__(self) -> None:
        if not MIN_ROWID <= self.first_rowid <= self.last_rowid <= MAX_ROWID:
            raise ValueError(f"not a closed range of rowids: {self.first_rowid}..{self.last_rowid}")

    def __contains__(self, other: RowidRange) -> bool:
        return self.first_rowid <= other.first_rowid and other.last_rowid <= self.last_rowid

    @property
    def span(self) -> int:
        """How many rowids the range holds: an upper bound of its rows."""
        return self.last_rowid - self.first_rowid + 1


class Affinity(Enum):
    """The five column affinities of SQLite (https://sqlite.org/datatype3.html, section 3.1)."""

    INTEGER = "integer"
    TEXT = "text"
    BLOB = "blob"
    REAL = "real"
    NUMERIC = "numeric"


class ReadType(Enum):
    """How a column's cells travel: in one strict Arrow column, or, `VARIANT`, in four that carry any cell."""

    INTEGER = "integer"
    REAL = "real"
    TEXT = "text"
    BLOB = "blob"
    VARIANT = "variant"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the source table."""

    name: str
    affinity: Affinity
    generated: bool = False
    """Computed by SQLite from other columns: never written to a shard."""
    storage_classes: frozenset[str] = frozenset()
    """What `typeof()` gave in a sample of rows; empty if nothing was sampled."""
    not_null: bool = False
    default: str | None = None
    """The text of its DEFAULT, if it has one."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index that a finished shard has."""

    name: str
    sql: str

    @property
    def is_unique(self) -> bool:
        return self.sql.startswith("CREATE UNIQUE ")  # SQLite keeps these words so, however they were written


@dataclass(frozen=True, slots=True)
class Table:
    """What a run needs to know of the source table."""

    name: str
    ddl: str
    """The source's own CREATE TABLE text."""
    columns: tuple[Column, ...]
    key: Column
    rowid_name: str
    """A name by which SQL reaches the rowid: an alias that no column shadows, or the INTEGER PRIMARY KEY column."""
    rowid_column: str | None
    """The column that is an alias of the rowid (INTEGER PRIMARY KEY), if there is one."""
    indexes: tuple[Index, ...] = ()
    triggers: tuple[str, ...] = ()
    encoding: str = "UTF-8"
    user_version: int = 0
    application_id: int = 0

    @property
    def carried(self) -> tuple[Column, ...]:
        """The columns that are read besides the rowid: all that are stored, and the key, even if it is computed."""
        return tuple(
            column
            for column in self.columns
            if column.name != self.rowid_column and (not column.generated or column is self.key)
        )

    @property
    def written(self) -> tuple[Column, ...]:
        """The columns that are written besides the rowid."""
        return tuple(column for column in self.carried if not column.generated)


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Which shards there are. A *slot* is a shard's position in this run: 0 … N−1 by hash, then the reserved one."""

    num_shards: int
    reserved_shard: int

    @property
    def reserved_slot(self) -> int:
        """The slot of keyless rows: the reserved shard's own, or the hash shard whose number it shares."""
        return min(self.reserved_shard, self.num_shards)

    @property
    def shards(self) -> tuple[int, ...]:
        """The shard's number at each slot."""
        extra = () if self.reserved_shard < self.num_shards else (self.reserved_shard,)
        return (*range(self.num_shards), *extra)


@dataclass(frozen=True, slots=True)
class ReadTask:
    """What one connectorx call brings: whole windows, ascending."""

    windows: tuple[RowidRange, ...]
    partitions: tuple[RowidRange, ...]
    """Ascending and disjoint; each is one query. Together they cover the windows."""
    slots: frozenset[int] | None = None
    """The slots that get these windows, if only lost shards do. None means all."""
    bytes: int = 0
    """The memory that its rows need, measured before they are read."""

    @property
    def whole(self) -> RowidRange:
        """From the first rowid to the last."""
        return RowidRange(self.windows[0].first_rowid, self.windows[-1].last_rowid)


@dataclass(frozen=True, slots=True)
class Seal:
    """Since the cut-over a shard is its applications'. The fields are columns that `_etl_identity` has then."""

    sealed_at: str
    """ISO 8601, UTC."""
    first_id: int | None
    """From here to `last_id` rowids are this shard's own: applications may give them to new rows. None: no range."""
    last_id: int | None


@dataclass(frozen=True, slots=True)
class Identity:
    """The settings that all runs over a shard must share. The fields are the columns of `_etl_identity`."""

    source: str
    source_table: str
    ddl_sha256: str
    shard_key: str
    num_shards: int
    reserved_shard: int
    shard: int
    format_version: int = 1
    """2 in a sealed shard."""
    seal: Seal | None = None

    def with_changes_of(self, found: Identity) -> Identity:
        """The same with what may be another in a shard of the same set: it may have moved, follow, or be sealed."""
        return replace(
            self,
            source=found.source,
            ddl_sha256=found.ddl_sha256,
            format_version=found.format_version,
            seal=found.seal,
        )


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """A window in one shard's ledger. The fields are the columns of `_etl_windows`."""

    window: RowidRange
    rows: int
    run_id: str
    committed_at: str
