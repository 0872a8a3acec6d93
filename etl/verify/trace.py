"""The rows of a block that differ: each row's kind, and the windows to repair."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from etl.shards.comparison import SAME, ComparedRows
from etl.verify.blocks import Blocks
from etl.verify.differences import Differences

Flags = npt.NDArray[np.bool_]


def classify(
    source: ComparedRows,
    found: Mapping[int, ComparedRows],
    *,
    equal: Collection[int],
    into: Differences,
    blocks: Blocks,
) -> None:
    """Adds each row that differs to the differences.

    `source` has all rows of the source in a block; `found` has those of some shards, by slot; the slots in `equal` are
    known to hold the right rows. A row that belongs to any other slot counts as not compared.
    """
    rowids = np.concatenate([np.empty(0, np.int64), *(rows.rowids for rows in found.values())])
    slots = np.repeat(np.array(list(found), np.int64), [len(rows.rowids) for rows in found.values()])
    same = np.concatenate([np.empty(0, np.bool_), *(rows.states == SAME for rows in found.values())])
    at = np.minimum(np.searchsorted(source.rowids, rowids), max(0, len(source.rowids) - 1))
    known = source.rowids[at] == rowids if len(source.rowids) else np.zeros(len(rowids), np.bool_)
    row = at[known]
    is_home = slots[known] == source.slots[row]
    read = np.isin(source.slots, list(found))
    home = np.isin(source.slots, list(equal)) | _flags(source, row[is_home])
    away = _flags(source, row[~is_home])
    changed = _flags(source, row[is_home & ~same[known]])
    into.rows["missing"].add(source.rowids[~home & ~away & read])
    into.rows["extra"].add(np.unique(rowids[~known]))
    into.rows["changed"].add(source.rowids[changed])
    into.rows["misplaced"].add(source.rowids[~home & away])
    into.rows["duplicated"].add(source.rowids[home & away])
    is_wrong_at_home = (~home | changed) & read
    _to_repair(into, blocks, source.slots[is_wrong_at_home], source.rowids[is_wrong_at_home])
    _to_repair(into, blocks, slots[known][~is_home], source.rowids[row[~is_home]])
    _to_repair(into, blocks, slots[~known], rowids[~known])


def _flags(source: ComparedRows, rows: npt.NDArray[np.int64]) -> Flags:
    """True at these positions; shape (rows of the source,)."""
    flags = np.zeros(len(source.rowids), np.bool_)
    flags[rows] = True
    return flags


def _to_repair(
    into: Differences, blocks: Blocks, slots: npt.NDArray[np.integer], rowids: npt.NDArray[np.int64]
) -> None:
    windows = blocks.window_of(rowids)
    for slot in np.unique(slots):
        into.to_repair(int(slot), map(int, np.unique(windows[slots == slot])))
