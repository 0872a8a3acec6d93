"""Rows by shard: one gather of a frame by (slot, rowid), of which each shard then takes a slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from etl.core import routing_frame
from etl.core.columns import ROWID, TAGS, ReadTypes
from etl.core.model import ReadType, RowidRange, ShardMap, Table

ToUtf8 = Callable[[pl.Series], pl.Series]


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A batch's rows, sorted by slot and then rowid."""

    cells: pa.Table
    """The parameters of `sql.insert`, in its order; shape (rows, parameters)."""
    offsets: npt.NDArray[np.int64]
    """Slot s has the rows offsets[s] … offsets[s+1]−1; shape (slots + 1,)."""
    window_rows: npt.NDArray[np.int64]
    """How many rows of each window each slot got; shape (windows, slots)."""
    breaks_not_null: bool
    """Whether a row has, or a generated column may get, a NULL where the table says NOT NULL."""

    def of(self, slot: int) -> pa.Table:
        """The slot's rows; a view, nothing is copied."""
        start = int(self.offsets[slot])
        return self.cells.slice(start, int(self.offsets[slot + 1]) - start)


def partition(
    frame: pl.DataFrame,
    keys: pl.Series,
    *,
    table: Table,
    read_types: ReadTypes,
    windows: Sequence[RowidRange],
    shards: ShardMap,
) -> Partitioned:
    """Sorts a frame of the windows' rows, in rowid order, by slot."""
    window_of = np.searchsorted([window.last_rowid for window in windows], frame[ROWID].to_numpy())
    slots = routing_frame.slots(keys, shards)
    order = np.argsort(slots, kind="stable")  # a radix sort on 16 bits; stable, so rowids stay in order within a slot
    count = len(shards.shards)
    cells = [ROWID, *(name for _, names in read_types.written(table) for name in names)]
    gathered = frame.select(pl.col(cells).gather(pl.Series(order.astype(np.uint32))))
    window_rows = np.bincount(window_of * count + slots, minlength=len(windows) * count)
    return Partitioned(
        # String views as Polars has them: a conversion to offsets would only be undone by the driver.
        cells=gathered.to_arrow(compat_level=pl.CompatLevel.newest()),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(slots, minlength=count))]),
        window_rows=window_rows.reshape(len(windows), count),
        breaks_not_null=_breaks_not_null(gathered, table, read_types),
    )


def _breaks_not_null(frame: pl.DataFrame, table: Table, read_types: ReadTypes) -> bool:
    if any(column.generated and column.not_null for column in table.columns):
        return True  # its cells are not read
    firsts = (frame[names[0]] for column, names in read_types.written(table) if column.not_null)
    return any(first.null_count() or (first.name.endswith("_tag") and (first == 0).any()) for first in firsts)


def keys(frame: pl.DataFrame, table: Table, read_types: ReadTypes, *, utf8: ToUtf8 | None) -> pl.Series:
    """What is hashed for each row: String or Binary, null for NULL.

    `utf8` gives the UTF-8 form of text cells' bytes, Binary to Binary, where the source keeps text in another encoding.
    """
    if table.key.name == table.rowid_column:
        return routing_frame.integer_keys(frame[ROWID])
    position = table.carried.index(table.key)
    names = read_types.frame_columns(position)
    match read_types.types[position]:
        case ReadType.TEXT | ReadType.BLOB:
            return frame[names[0]]
        case ReadType.INTEGER:
            return routing_frame.integer_keys(frame[names[0]])
        case ReadType.REAL:
            return routing_frame.real_keys(frame[names[0]])
        case ReadType.VARIANT:
            return _exact_keys([frame[name] for name in names], utf8)


def _exact_keys(cells: Sequence[pl.Series], utf8: ToUtf8 | None) -> pl.Series:
    tag, integer, real, data = cells
    if utf8 is not None:
        is_text = tag == TAGS["text"]
        nulls = pl.Series([None], dtype=pl.Binary).new_from_index(0, len(tag))
        data = utf8(data.zip_with(is_text, nulls)).zip_with(is_text, data)
    integers = routing_frame.integer_keys(integer).cast(pl.Binary)
    reals = routing_frame.real_keys(real).cast(pl.Binary)
    return integers.zip_with(tag == TAGS["integer"], reals.zip_with(tag == TAGS["real"], data))
