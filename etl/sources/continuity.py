"""Whether the rows that many range reads bring follow each other without a gap: each read is held to the tree.

In a sound file ranges that adjoin bring every row. In a damaged one a wrong key inside the B-tree sends the search for
a range's beginning astray, or ends a range early, and rows between two reads are skipped without an error. So at both
edges of each read the last row before the edge, and the very next row, must be what the tree says.

A read and what the tree says of its edges are one statement, so one snapshot: a program that writes meanwhile changes
neither without the other. Rows of two reads are never compared. In a damaged file that nobody writes to, two reads
that adjoin ask the same of their common edge, so what each is held to, they are held to together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from etl.core.columns import ROWID
from etl.core.model import RowidRange
from etl.sources import sql


def rows_of(batches: Iterable[pa.RecordBatch], partitions: Sequence[RowidRange]) -> list[pa.RecordBatch] | None:
    """The batches without the leading rows of `sql.read`, or None where a partition's rows are not those of the tree.

    Each batch is of one query. The rows of one that is given are ascending, and of one partition.
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
    """Whether a partition's first and last rows are those of the tree, by the rowids that `sql.read` tells."""
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
