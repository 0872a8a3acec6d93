"""The walk over the source's rows that many range reads make together: each step of it can be asked for.

In a sound file ranges that adjoin bring every row. In a damaged one a wrong key inside the B-tree sends the search for
a range's beginning astray, or ends a range early, and rows between two reads are skipped without an error. So the
reads' ends are joined: from the last row of one, the very next row must be the first of the following one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from etl import sql_rows
from etl.model import RowidRange, Table


class Walk:
    """How far the reads have come; they are ascending, mostly one after the other."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._read_to: int | None = None
        self._last_row: int | None = None

    def steps(
        self, partitions: Sequence[RowidRange], rowids: npt.NDArray[np.int64], *, anew: bool = False
    ) -> list[sql_rows.Step]:
        """The steps between the rows before the partitions, each partition's rows, and the end of the last one.

        `rowids` are those read, ascending by partition, perhaps with others that lie in none. With `anew` the row
        before is asked for: a live source may have lost the one that was read last.
        """
        whole = RowidRange(partitions[0].first_rowid, partitions[-1].last_rowid)
        before: int | str = sql_rows.last_rowid_before(self._table, whole.first_rowid)
        if self._read_to == whole.first_rowid - 1 and self._last_row is not None and not anew:
            before = self._last_row
        steps = []
        for partition in partitions:
            inside = rowids[(rowids >= partition.first_rowid) & (rowids <= partition.last_rowid)]
            if len(inside):
                steps.append(sql_rows.Step(before, int(inside[0]), partition.first_rowid))
                before = int(inside[-1])
        return [*steps, sql_rows.Step(before, None, whole.last_rowid)]

    def advance(self, steps: Sequence[sql_rows.Step]) -> None:
        """Takes in that these steps were made."""
        end = steps[-1]
        self._read_to = end.edge
        self._last_row = end.before if isinstance(end.before, int) else None
