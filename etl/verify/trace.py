"""The rows of a block that differ: each row's kind, and the windows to repair."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etl.shards.comparison import ABSENT, CHANGED, SAME, ComparedRows
from etl.shards.ledger_arrays import Numbers
from etl.verify.blocks import Blocks
from etl.verify.differences import Differences

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Trace:
    """The rows of a block on both sides."""

    source: ComparedRows
    """All rows of the source."""
    found: Mapping[int, ComparedRows]
    """The rows of some shards, by slot."""


def classify(trace: Trace, *, equal: Collection[int], into: Differences, blocks: Blocks) -> Numbers:
    """Adds each row that differs to the differences; returns their rowids, ascending.

    The slots in `equal` are known to hold the right rows. A row that belongs to any other slot which was not read
    counts as not compared.
    """
    source, found = trace.source, trace.found
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
    kinds = {
        "missing": source.rowids[~home & ~away & read],
        "extra": np.unique(rowids[~known]),
        "changed": source.rowids[changed],
        "misplaced": source.rowids[~home & away],
        "duplicated": source.rowids[home & away],
    }
    for kind, of_kind in kinds.items():
        into.rows[kind].add(of_kind)
    is_wrong_at_home = (~home | changed) & read
    _to_repair(into, blocks, source.slots[is_wrong_at_home], source.rowids[is_wrong_at_home])
    _to_repair(into, blocks, slots[known][~is_home], source.rowids[row[~is_home]])
    _to_repair(into, blocks, slots[~known], rowids[~known])
    return np.unique(np.concatenate(list(kinds.values())))


def foreign_rows(trace: Trace, slot: int, blocks: Blocks, windows: Collection[int]) -> Numbers:
    """The rowids of a shard's rows, in these windows, that no run wrote.

    They are not the source's: it has no such rowid, or other cells under it in another shard.
    """
    found, source = trace.found[slot], trace.source
    at = np.minimum(np.searchsorted(source.rowids, found.rowids), max(0, len(source.rowids) - 1))
    is_home = source.slots[at] == slot if len(source.rowids) else np.zeros(len(found.rowids), np.bool_)
    strange = found.rowids[(found.states == ABSENT) | ((found.states == CHANGED) & ~is_home)]
    in_windows: Numbers = strange[np.isin(blocks.window_of(strange), list(windows))]
    return in_windows


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
