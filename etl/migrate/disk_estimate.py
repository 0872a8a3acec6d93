"""How much disk a run needs: the one estimate, by which `--plan` and the run decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from etl.core.model import RowidRange, Table
from etl.runtime import limits
from etl.shards.checkpoint import Checkpoint
from etl.shards.ddl_check import IndexedColumns
from etl.sources import sql
from etl.sqlite import stdlib

_SAMPLED_ROWS = 200
_ROW_OVERHEAD = 6
"""Bytes of a row in a B-tree beside its cells: lengths, rowid, pointer. Each cell adds a byte for its type."""
_INDEX_OVERHEAD = 10
_FILLED = 0.85
"""The least share of a page that is cells; measured, see `DiskEstimate`."""
_PAGES_OF_A_NEW_SHARD = 7


@dataclass(frozen=True, slots=True)
class DiskEstimate:
    """Bytes that a run needs on the disk of SHARD_DIR.

    new rows = min(backlog, source's pages × page size × backlog ÷ source's rowids ÷ bytes of a sampled row)
    rows = new rows × (r + min(r, p)² ÷ 2p) ÷ 0.85, for r bytes of a row and p of a page; + 7 pages and one for each
        index for each new shard
    indexes = (new rows + rows of shards that lack the index) × bytes of an entry ÷ 0.85, over all indexes
    meanwhile = max(largest index × min(WRITERS, shards) ÷ shards, the -wal files of shards that are finished)
    Measured, estimate ÷ bytes of a first load: 1.04 to 1.20 for four tables, 1.8 for one with sparse rowids.
    """

    rows: int
    indexes: int
    meanwhile: int
    """Temporary files: SQLite's sorter or the -wal files."""
    new_shard: int
    """The bytes of a new shard without rows; `rows` has them, too."""
    by_index: dict[str, int]
    """Each index → its bytes in all shards after the run."""

    @property
    def growth(self) -> int:
        """What the shards' files grow by."""
        return self.rows + self.indexes

    @property
    def bytes(self) -> int:
        """What must be free when the run starts."""
        return self.growth + self.meanwhile


def estimate(
    path: Path, table: Table, rowids: RowidRange | None, found: Checkpoint, indexed: IndexedColumns, *, writers: int
) -> DiskEstimate:
    """The estimate for what is left to do, from a sample of its rows."""
    slots = len(found.found)
    backlog = sum(part.span for part in found.backlog.fresh)
    backlog += sum(-(-window.span * len(lacking) // slots) for window, lacking in found.backlog.lost.items())
    with stdlib.source(path) as database:
        pages, page_bytes = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        sampled: dict[str, float] = {}
        if rowids:
            parts = found.backlog.fresh or (rowids,)
            columns = database.execute(
                sql.column_bytes(table, parts[0].first_rowid, parts[-1].last_rowid, rows=_SAMPLED_ROWS)
            ).fetchone()
            sampled = {column.name: float(size or 0) for column, size in zip(table.columns, columns, strict=True)}
    row = _ROW_OVERHEAD + sum(1 + sampled.get(column.name, 0.0) for column in table.written)
    page = limits.page_bytes(slots)
    row_in_pages = row + min(row, page) ** 2 / (2 * page)
    share = backlog / rowids.span if rowids else 0.0
    rows = min(backlog, pages * page_bytes * share / row)
    entries = {
        name: _INDEX_OVERHEAD + sum(sampled.get(column or "", 8.0) for column in columns)
        for name, columns in indexed.items()
    }
    missing = dict.fromkeys(entries, 0.0)
    for shard in found.found:
        for index in shard.indexes.missing if shard else ():
            missing[index.name] += shard.rows if shard else 0
    index_bytes = {name: (rows + missing[name]) * entry / _FILLED for name, entry in entries.items()}
    new_shards = sum(shard is None for shard in found.found)
    new_shard = (_PAGES_OF_A_NEW_SHARD + len(entries)) * page
    rebuilt = sum(found.rows) if found.is_finished and found.growth > limits.REINDEX_GROWTH else 0
    largest = max((index_bytes[name] + rebuilt * entry / _FILLED for name, entry in entries.items()), default=0.0)
    sorters = largest * min(writers, slots) / slots
    wal_rows = min(rows, slots * limits.TRANSACTION_ROWS) if found.is_finished else 0
    wal = wal_rows * (row_in_pages + sum(entries.values())) / _FILLED
    return DiskEstimate(
        round(rows * row_in_pages / _FILLED) + new_shards * new_shard,
        round(sum(index_bytes.values())),
        round(max(sorters, wal)),
        new_shard,
        {name: round((rows + sum(found.rows)) * entry / _FILLED) for name, entry in entries.items()},
    )
