"""The lag: how many rows of the source are newer than the shards."""

from __future__ import annotations

from etl.runtime.settings import Settings
from etl.sources import schema


def lag_rows(settings: Settings, last_rowid: int | None) -> int:
    """The source's rows after `last_rowid`, or all for None; of many, the number of rowids, which is an upper bound.

    Raises EtlError if the source cannot be read.
    """
    table, _ = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
    return schema.rows_above(settings.SOURCE_DB, table, last_rowid)
