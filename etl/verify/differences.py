"""The result of a verification: rows that differ, by kind; notes on ledgers and files; what a repair has to do.

It holds rowids, never a cell's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from etl.core.model import Index, RowidRange
from etl.runtime.console import once
from etl.shards.ledger_arrays import Numbers
from etl.status.units import counted

ROW_KINDS = ("missing", "extra", "changed", "misplaced", "duplicated")
"""missing: in the source, but in no shard. extra: in a shard, but not in the source, or outside the shard's windows.
changed: with other cells. misplaced: not in the shard of its key. duplicated: in more than one shard."""
FIRST_ROWIDS = 20
_NOTES_SHOWN = 20


@dataclass(slots=True)
class Rows:
    """Rows of one kind: their number, and the first rowids."""

    count: int = 0
    rowids: list[int] = field(default_factory=list)

    @property
    def more(self) -> str:
        """An ellipsis where there are more rows than listed rowids."""
        return ", …" if self.count > len(self.rowids) else ""

    def add(self, rowids: Numbers) -> None:
        """Adds rows."""
        self.count += len(rowids)
        self.rowids = sorted({*self.rowids, *map(int, np.sort(rowids)[:FIRST_ROWIDS])})[:FIRST_ROWIDS]


@dataclass(frozen=True, slots=True)
class Note:
    """A difference that is not one of rows: in a ledger, the manifest, an index, a schema, or a damaged file."""

    kind: str
    place: str
    text: str


@dataclass(slots=True)
class Differences:
    """All differences of one verification."""

    rows: dict[str, Rows] = field(default_factory=lambda: {kind: Rows() for kind in ROW_KINDS})
    notes: list[Note] = field(default_factory=list)
    remarks: list[Note] = field(default_factory=list)
    """Tables, indexes, triggers and views that no run creates. They are no difference."""
    windows: dict[int, set[int]] = field(default_factory=dict)
    """Slot → positions, among the compared windows, of those with a row or a ledger line to repair."""
    ledgers: dict[int, set[int]] = field(default_factory=dict)
    """Slot → positions of the windows whose line in its ledger is wrong."""
    foreign: dict[int, set[int]] = field(default_factory=dict)
    """Slot → positions of the windows in which it has more rows than its ledger: no run wrote its extra rows there."""
    foreign_rows: int = 0
    """Extra or duplicated rows that no run wrote: in those windows, or outside every window."""
    outside: set[int] = field(default_factory=set)
    """Slots with rows outside every window."""
    indexes: dict[int, list[Index]] = field(default_factory=dict)
    """Slot → indexes to build again."""
    drift: str = ""
    """Where the source's schema has changed: what to do first. A repair is refused until then."""
    headers: set[int] = field(default_factory=set)
    """Slots whose user_version or application_id differs from the source's."""
    sequences: set[int] = field(default_factory=set)
    """Slots whose sqlite_sequence would let AUTOINCREMENT give a rowid twice."""
    damaged: set[int] = field(default_factory=set)
    """Slots whose whole file must be rebuilt: their rows were not compared."""

    @property
    def count(self) -> int:
        """The rows that differ."""
        return sum(rows.count for rows in self.rows.values())

    @property
    def is_equal(self) -> bool:
        return not self.notes and not self.count

    @property
    def is_foreign_only(self) -> bool:
        """Whether all that differs is rows that no run wrote."""
        return not self.notes and 0 < self.foreign_rows == self.count

    def note(self, kind: str, place: object, text: str) -> None:
        self.notes.append(_note(kind, place, text))

    def remark(self, kind: str, place: object, text: str) -> None:
        self.remarks.append(_note(kind, place, text))

    def to_repair(self, slot: int, windows: Iterable[int]) -> None:
        """Notes windows of a shard for the repair."""
        self.windows.setdefault(slot, set()).update(windows)

    def add(self, other: Differences) -> None:
        """Adds what another part of the verification found, without what a repair has to do."""
        for kind, rows in other.rows.items():
            self.rows[kind].count += rows.count
            self.rows[kind].rowids = sorted([*self.rows[kind].rowids, *rows.rowids])[:FIRST_ROWIDS]
        self.notes += other.notes
        self.remarks += other.remarks
        self.foreign_rows += other.foreign_rows
        self.drift = self.drift or other.drift

    def add_files(self, other: Differences) -> None:
        """Adds the files that another part found damaged, and that are therefore compared no further."""
        self.notes += [note for note in other.notes if note.kind == "file" and note not in self.notes]

    def forget_files(self) -> None:
        self.notes = [note for note in self.notes if note.kind != "file"]

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": {kind: {"count": rows.count, "first_rowids": rows.rowids} for kind, rows in self.rows.items()},
            "notes": [asdict(note) for note in self.notes],
            "remarks": [asdict(remark) for remark in self.remarks],
        }

    def counts(self) -> dict[str, int]:
        """The number of differences of each kind; kinds without any are left out."""
        counts = {kind: rows.count for kind, rows in self.rows.items() if rows.count}
        for note in self.notes:
            counts[note.kind] = counts.get(note.kind, 0) + 1
        return counts

    def lines(self) -> list[str]:
        lines = [
            f"{kind}: {counted(rows.count, 'row')}; {'rowid' if rows.count == 1 else 'rowids'} "
            f"{', '.join(map(str, rows.rowids))}{rows.more}"
            for kind, rows in self.rows.items()
            if rows.count
        ]
        lines += _first(f"{note.kind}: {note.place}: {note.text}" for note in self.notes)
        return lines + _first(f"note: {remark.place}: {remark.text}" for remark in self.remarks)


@dataclass(slots=True)
class Result:
    """The differences, and how much was compared; filled in while the verification runs."""

    differences: Differences = field(default_factory=Differences)
    blocks: dict[int, list[int]] = field(default_factory=dict)
    """The blocks that differ, and the slots whose rows do."""
    all_windows: Sequence[RowidRange] = ()
    """All windows, compared or not."""
    compared: Sequence[RowidRange] = ()
    """The windows that were compared."""
    source_rows: int = 0
    shard_rows: int = 0
    shards: int = 0
    is_unfinished: bool = False
    """Whether a load ended before its time; what it has not done is no difference."""
    is_suspect: bool = False
    """Whether a block differs whose rows were not yet looked at one by one: there was no time."""
    newer_rows: int = 0
    """Rows of the source outside all windows that are complete: the next run loads them."""


def total(whole: Result, parts: Iterable[Result]) -> Result:
    """What was found in all."""
    result = Result(
        all_windows=whole.all_windows,
        shard_rows=whole.shard_rows,
        shards=whole.shards,
        is_unfinished=whole.is_unfinished,
        newer_rows=whole.newer_rows,
        is_suspect=whole.is_suspect,
    )
    result.differences.add(whole.differences)
    for part in parts:
        result.differences.add(part.differences)
        result.compared = [*result.compared, *part.compared]
        result.source_rows += part.source_rows
        result.shard_rows += part.shard_rows
        result.is_suspect |= part.is_suspect
    return result


def _note(kind: str, place: object, text: str) -> Note:
    # A path's bytes need not be UTF-8; what is printed must be.
    return Note(kind, *(str(part).encode("utf-8", "backslashreplace").decode() for part in (place, text)))


def _first(lines: Iterable[str]) -> list[str]:
    """The lines, or the first of many; what several shards have in common is one."""
    every = once(lines)
    rest = len(every) - _NOTES_SHOWN
    return [*every[:_NOTES_SHOWN], f"… and {rest:,} more; --json has them all"] if rest > 0 else every
