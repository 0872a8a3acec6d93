"""UNIQUE conflicts: the shard has a row that the source no longer has, or has with other values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from etl.core.model import Table
from etl.shards import sql
from etl.shards.comparison import fill
from etl.shards.ledger_arrays import Numbers
from etl.sqlite.adbc import Connection, ShardError

_NONE = np.empty(0, np.int64)


class StaleRows(ShardError):
    """Stale rows of a shard keep new ones out. The caller replaces them, and inserts the new ones again."""

    def __init__(self, message: str, rowids: Numbers) -> None:
        super().__init__(message)
        self.rowids = rowids


def insert(
    connection: Connection, table: Table, new: Numbers, rows: Callable[[str], object], *, owned: Numbers = _NONE
) -> None:
    """Inserts rows with these rowids, in a transaction, by a function that takes the conflict clause.

    Raises StaleRows where rows are in the way, and ShardError where one of them may be a row that no run wrote, unless
    it is `owned`: the caller may delete it. The transaction is then rolled back.
    """
    try:
        rows("ABORT")
    except ShardError as error:
        if "UNIQUE constraint failed" not in str(error):
            raise
        # Whatever makes a row unique (a constraint, an index on expressions, a partial index), REPLACE finds it.
        connection.execute(sql.CREATE_REMOVED)
        connection.execute(sql.note_removed(table))
        connection.pragma("recursive_triggers", "ON")
        rows("REPLACE")
        removed = np.array(connection.fetch(sql.REMOVED).column(0), np.int64)
        connection.execute("ROLLBACK")
        rowids = np.setdiff1d(removed, new)  # those before the conflict had been inserted
        fill(connection, np.setdiff1d(rowids, owned))
        if not len(rowids) or connection.execute(sql.foreign(table)):
            raise
        raise StaleRows(str(error), rowids) from None
