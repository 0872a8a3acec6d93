"""The walk over the source's rows that many range reads make together: at each read's edges it is held to the tree.

In a sound file ranges that adjoin bring every row. In a damaged one a wrong key inside the B-tree sends the search for
a range's beginning astray, or ends a range early, and rows between two reads are skipped without an error. So at each
edge the last row that was read must be the last one there is, and from it the very next must be the first one read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from etl import sql, sql_rows
from etl.lanes import ROWID
from etl.model import RowidRange


def without_edges(batches: Iterable[pa.RecordBatch], partitions: Sequence[RowidRange]) -> list[pa.RecordBatch] | None:
    """The batches of rows, or None where they and what `sql_rows.edges` brought among them do not fit together.

    Each batch is ascending, and of one query; a query's first row is its sentinel or its mark.
    """
    mark = sql_rows.mark_rowid(partitions[0])
    rows = [batch for batch in batches if batch.num_rows and batch.column(ROWID)[0].as_py() != mark]
    (tree,) = (batch for batch in batches if batch.num_rows and batch.column(ROWID)[0].as_py() == mark)
    whole = RowidRange(partitions[0].first_rowid, partitions[-1].last_rowid)
    found = tree.column(ROWID).to_pylist()[1:]
    count = len(partitions) + 1
    befores = [rowid if rowid is not None and rowid >= whole.first_rowid else None for rowid in found[:count]]
    afters = [rowid if rowid is not None and rowid <= whole.last_rowid else None for rowid in found[count:]]
    ends = [end for batch in rows if (end := _ends(batch, sql.sentinel_rowid(whole)))]
    edges = sql_rows.edge_rowids(partitions)
    read_before = [max((last for _, last in ends if last <= edge), default=None) for edge in edges]
    read_after = [min((first for first, _ in ends if first > edge), default=None) for edge in edges]
    return rows if (befores, afters) == (read_before, read_after) else None


def _ends(batch: pa.RecordBatch, sentinel: int) -> tuple[int, int] | None:
    """A batch's first and last rowid, the sentinel aside."""
    rowids = batch.column(ROWID)
    start = int(rowids[0].as_py() == sentinel)
    return (rowids[start].as_py(), rowids[-1].as_py()) if batch.num_rows > start else None
