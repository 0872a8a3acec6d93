"""The rows of a range that differ: each row's kind, and the windows to repair."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etl.verify.blocks import Blocks
from etl.verify.differences import FIRST_ROWIDS, Differences
from etl.verify.digest import Words

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fingerprinted:
    """Rows as arrays, each of shape (rows,). The slot of a source's row is that of its key."""

    rowids: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    low: Words
    high: Words

    def of_slots(self, slots: Collection[int]) -> Fingerprinted:
        """The rows of these slots."""
        kept = np.isin(self.slots, list(slots))
        return Fingerprinted(self.rowids[kept], self.slots[kept], self.low[kept], self.high[kept])

    @classmethod
    def joined(cls, parts: Collection[Fingerprinted]) -> Fingerprinted:
        return cls(
            np.concatenate([np.empty(0, np.int64), *(part.rowids for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.slots for part in parts)]),
            np.concatenate([np.empty(0, np.uint64), *(part.low for part in parts)]),
            np.concatenate([np.empty(0, np.uint64), *(part.high for part in parts)]),
        )


def classify(
    source: Fingerprinted,
    found: Fingerprinted,
    *,
    read: Collection[int],
    equal: Collection[int],
    into: Differences,
    blocks: Blocks,
) -> None:
    """Adds each row that differs to the differences.

    `source` has all rows of the range, ascending; `found` has those of the slots in `read`; the slots in `equal` are
    known to hold the right rows. A row of any other slot counts as not compared.
    """
    at = np.searchsorted(source.rowids, found.rowids)
    at_or_last = np.minimum(at, max(0, len(source.rowids) - 1))
    known = (source.rowids[at_or_last] == found.rowids) if len(source.rowids) else np.zeros(len(found.rowids), np.bool_)
    unknown = Fingerprinted(*(part[~known] for part in (found.rowids, found.slots, found.low, found.high)))
    row = at[known]
    slots, low, high = found.slots[known], found.low[known], found.high[known]
    is_home = slots == source.slots[row]
    home = np.isin(source.slots, list(equal))
    home[row[is_home]] = True
    away = np.zeros(len(source.rowids), np.bool_)
    away[row[~is_home]] = True
    same = (low == source.low[row]) & (high == source.high[row])
    changed = np.zeros(len(source.rowids), np.bool_)
    changed[row[is_home & ~same]] = True
    _add(into, "missing", source.rowids[~home & ~away & np.isin(source.slots, list(read))])
    _add(into, "extra", np.unique(unknown.rowids))
    _add(into, "changed", source.rowids[changed])
    _add(into, "misplaced", source.rowids[~home & away])
    _add(into, "duplicated", source.rowids[home & away])
    is_wrong_at_home = (~home | changed) & np.isin(source.slots, list(read))
    _to_repair(into, blocks, source.slots[is_wrong_at_home], source.rowids[is_wrong_at_home])
    _to_repair(into, blocks, slots[~is_home], source.rowids[row[~is_home]])
    _to_repair(into, blocks, unknown.slots, unknown.rowids)


def _add(into: Differences, kind: str, rowids: npt.NDArray[np.int64]) -> None:
    if len(rowids):
        into.rows[kind].add(map(int, np.sort(rowids)[:FIRST_ROWIDS]), len(rowids))


def _to_repair(into: Differences, blocks: Blocks, slots: npt.NDArray[np.int64], rowids: npt.NDArray[np.int64]) -> None:
    windows = blocks.window_of(rowids)
    for slot in np.unique(slots):
        into.to_repair(int(slot), map(int, np.unique(windows[slots == slot])))
