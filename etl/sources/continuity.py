"""Checks that range reads lose no row at their edges.

In a sound file, ranges that adjoin bring every row. In a damaged one, a wrong key inside the B-tree can lead the search
for a range's beginning to the wrong place, or end a range early: rows between two reads are skipped without an error.
So each read also asks the B-tree for the last row before each of its two edges, and for the next row after that. The
rows that came must begin and end there.

A read and these four rowids are one statement, so they see one snapshot, whatever another program writes. Rows of two
reads are never compared. In a file that nobody writes to, two reads that adjoin get the same answer at their common
edge, so no row is lost between them either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from etl.core.columns import ROWID
from etl.core.model import RowidRange
from etl.sources import sql


def rows_of(batches: Iterable[pa.RecordBatch], partitions: Sequence[RowidRange]) -> list[pa.RecordBatch] | None:
    """The record batches without the leading rows of `sql.read`, or None if rows are missing or out of order.

    Each record batch is of one query. One that is returned has ascending rowids of one partition.
    """
    unseen = {sql.sentinel_rowid(partition): partition for partition in partitions}
    edges: dict[RowidRange, list[int]] = {}
    rows: list[pa.RecordBatch] = []
    ends: list[tuple[int, int]] = []
    for batch in batches:
        rowids = batch.column(ROWID).to_numpy()
        partition = unseen.pop(int(rowids[0]), None) if len(rowids) else None
        start = 0
        if partition:
            start = sql.LEADING_ROWS
            edges[partition] = rowids[1:start].tolist()
        rows.append(batch.slice(start))
        if len(rowids) > start:
            ends.append((int(rowids[start]), int(rowids[-1])))
        if np.any(np.diff(rowids[start:]) <= 0):
            return None
    inside = {
        partition: [pair for pair in ends if partition.first_rowid <= pair[0] and pair[1] <= partition.last_rowid]
        for partition in edges
    }
    fit = all(_fits(partition, edges[partition], inside[partition]) for partition in edges)
    return rows if fit and not unseen and sum(map(len, inside.values())) == len(ends) else None


def _fits(partition: RowidRange, edges: Sequence[int], ends: Sequence[tuple[int, int]]) -> bool:
    """Whether a partition's first and last rows are those that the B-tree has at its edges."""
    none = sql.sentinel_rowid(partition)
    before_start, before_end, after_start, after_end = edges
    first = min((first for first, _ in ends), default=none)
    last = max((last for _, last in ends), default=none)
    return (
        (before_start == none or before_start < partition.first_rowid)
        and (after_start == first or (first == none and after_start > partition.last_rowid))
        and (before_end == last or (last == none and before_end < partition.first_rowid))
        and (after_end == none or after_end > partition.last_rowid)
    )
