"""What must be so before the first byte is written: room on the disk, files that can be written, descriptors to spare.

Only what is still to do counts: the rowids that are left, the indexes that a shard lacks.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etl.core.errors import Refused
from etl.core.model import RowidRange, Table
from etl.runtime import limits, log
from etl.shards.checkpoint import Checkpoint
from etl.shards.ddl_check import IndexedColumns
from etl.shards.shard import Shard
from etl.sqlite import sql_rows, stdlib

_MIN_OPEN_FILES = 128
_SAMPLED_ROWS = 200
_ROW_OVERHEAD = 6
"""Of a row in a B-tree: its lengths, its rowid, its place in the page; and of each cell, its type: a byte."""
_INDEX_OVERHEAD = 10
_FILLED = 0.85
"""How much of a page is cells, at least; measured, see `Room`."""
_PAGES_OF_A_NEW_SHARD = 6


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that a run will need on the disk of SHARD_DIR.

    rows to do = min(rowids to do, source's pages × page size × share of its rowids to do ÷ bytes of a sampled row)
    rows = rows to do × (bytes of a row + half a row for each page, or half a page for each row past that); indexes =
    rows to do × the entries of every index, and, of indexes that shards lack yet, of the rows they have; all ÷ 0.85, as
    full as pages are; six pages for each new shard, one for each of its indexes. Beside them, for a while: the sorter's
    files of as many index builds as there are writers, or the -wal of shards that serve already.
    Estimate ÷ bytes that a first load really took, by four tables: 1.04 to 1.20; 1.8 by one of sparse rowids.
    """

    rows: int
    indexes: int
    meanwhile: int

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.rows + self.indexes + self.meanwhile


def check(
    shards: Sequence[Shard],
    stock: Checkpoint,
    *,
    directory: Path,
    writers: int,
    room: Room,
    force: bool,
) -> None:
    """Raises Refused where the run could not end well; a short disk is only logged with `force`."""
    for path in (directory, *(shard.path for shard in shards)):
        if path.exists() and not os.access(path, os.W_OK):
            raise Refused(f"{path}: expected to be able to write it, found it read-only; make it writable")
    for shard, found in zip(shards, stock.found, strict=True):
        shard.refuse_triggers(found.triggers if found else ())
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most_writers = min(writers, len(stock.found))
    if soft != resource.RLIM_INFINITY and (soft < _MIN_OPEN_FILES or most_writers > limits.max_open_shards()):
        raise Refused(
            f"open files: expected a limit that lets {most_writers} writers work, {_MIN_OPEN_FILES} at least, found "
            f"{soft}; raise it (ulimit -n), or lower WRITERS"
        )
    free = shutil.disk_usage(directory).free
    log.event("room", "DEBUG", rows=room.rows, indexes=room.indexes, meanwhile=room.meanwhile, free=free)
    if room.bytes > free:
        short = f"expected {_mb(room.bytes)} of free disk for what is to do, found {_mb(free)}"
        if not force:
            raise Refused(
                f"SHARD_DIR={directory}: {short}; free some, or choose another disk; --force tries all the same"
            )
        log.event("forced", "WARNING", although=short)


def room(
    path: Path, table: Table, rowids: RowidRange | None, stock: Checkpoint, indexed: IndexedColumns, *, writers: int
) -> Room:
    """The estimate, from a sample of the rows to do."""
    slots = len(stock.found)
    backlog = sum(piece.span for piece in stock.backlog.fresh)
    backlog += sum(-(-window.span * len(lacking) // slots) for window, lacking in stock.backlog.lost.items())
    with stdlib.source(path) as database:
        pages, page_bytes = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        sampled: dict[str, float] = {}
        if rowids:
            pieces = stock.backlog.fresh or (rowids,)
            columns = database.execute(
                sql_rows.column_bytes(table, pieces[0].first_rowid, pieces[-1].last_rowid, rows=_SAMPLED_ROWS)
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
    built = dict.fromkeys(entries, 0.0)
    for found in stock.found:
        for index in found.missing_indexes if found else ():
            built[index.name] += found.rows if found else 0
    index_bytes = {name: (rows + built[name]) * entry / _FILLED for name, entry in entries.items()}
    new = sum(found is None for found in stock.found)
    new_bytes = new * (_PAGES_OF_A_NEW_SHARD + len(entries)) * page
    anew = sum(stock.rows) if stock.is_finished and stock.growth > limits.REINDEX_GROWTH else 0
    largest = max((index_bytes[name] + anew * entry / _FILLED for name, entry in entries.items()), default=0.0)
    sorters = largest * min(writers, slots) / slots
    wal_rows = min(rows, slots * limits.TRANSACTION_ROWS) if stock.is_finished else 0
    wal = wal_rows * (row_in_pages + sum(entries.values())) / _FILLED
    return Room(
        round(rows * row_in_pages / _FILLED) + new_bytes, round(sum(index_bytes.values())), round(max(sorters, wal))
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
