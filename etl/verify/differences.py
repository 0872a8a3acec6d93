"""What a verification finds: rows by kind, notes on ledgers and files, and what a repair has to do. Never a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from etl.core.model import Index

ROW_KINDS = ("missing", "extra", "changed", "misplaced", "duplicated")
"""In the source and in no shard; in a shard, and not in the source or not in that shard's ledger; with other cells; in
another shard than its key asks for; in more than one shard."""
FIRST_ROWIDS = 20
_NOTES_SHOWN = 20


@dataclass(slots=True)
class Rows:
    """Rows of one kind: how many, and the least of their rowids."""

    count: int = 0
    rowids: list[int] = field(default_factory=list)

    @property
    def more(self) -> str:
        """An ellipsis where there are more than the first rowids."""
        return ", …" if self.count > len(self.rowids) else ""

    def add(self, rowids: Iterable[int], count: int) -> None:
        """Takes in `count` rows, `rowids` being the first of them."""
        self.count += count
        self.rowids = sorted({*self.rowids, *rowids})[:FIRST_ROWIDS]


@dataclass(frozen=True, slots=True)
class Note:
    """A difference that is not one of rows: of a ledger, the manifest, an index, a schema, or a file past mending."""

    kind: str
    place: str
    text: str


@dataclass(slots=True)
class Findings:
    """All differences of one verification."""

    rows: dict[str, Rows] = field(default_factory=lambda: {kind: Rows() for kind in ROW_KINDS})
    notes: list[Note] = field(default_factory=list)
    remarks: list[Note] = field(default_factory=list)
    """What is worth knowing and is no difference: tables, indexes, triggers and views that no run made."""
    windows: dict[int, set[int]] = field(default_factory=dict)
    """Slot → the positions, in the grid, of windows to be written again."""
    strays: set[int] = field(default_factory=set)
    """Slots with rows outside every window."""
    indexes: dict[int, list[Index]] = field(default_factory=dict)
    """Slot → indexes to be built anew."""
    headers: set[int] = field(default_factory=set)
    """Slots whose user_version or application_id is another than the source's."""
    sequences: set[int] = field(default_factory=set)
    """Slots whose sqlite_sequence would let AUTOINCREMENT give a rowid twice."""
    unsound: set[int] = field(default_factory=set)
    """Slots whose whole file is to be replaced: no row of theirs was compared."""
    manifest: set[int] = field(default_factory=set)
    """Positions of windows that the manifest lacks or has wrong."""
    manifest_is_unsound: bool = False

    @property
    def is_equal(self) -> bool:
        """Whether there is no difference at all."""
        return not self.notes and not any(rows.count for rows in self.rows.values())

    def note(self, kind: str, place: object, text: str) -> None:
        """Takes in a difference that is not one of rows."""
        self.notes.append(_note(kind, place, text))

    def remark(self, kind: str, place: object, text: str) -> None:
        """Takes in what is no difference."""
        self.remarks.append(_note(kind, place, text))

    def mend(self, slot: int, windows: Iterable[int]) -> None:
        """Has windows of a shard written again by a repair."""
        self.windows.setdefault(slot, set()).update(windows)

    def as_json(self) -> dict[str, Any]:
        """Counts and first rowids by kind, all notes and all remarks."""
        return {
            "rows": {kind: {"count": rows.count, "first_rowids": rows.rowids} for kind, rows in self.rows.items()},
            "notes": [asdict(note) for note in self.notes],
            "remarks": [asdict(remark) for remark in self.remarks],
        }

    def counts(self) -> dict[str, int]:
        """How many differences of each kind there are; kinds without any are left out."""
        counts = {kind: rows.count for kind, rows in self.rows.items() if rows.count}
        for note in self.notes:
            counts[note.kind] = counts.get(note.kind, 0) + 1
        return counts

    def lines(self) -> list[str]:
        """The same for people."""
        lines = [
            f"{kind}: {rows.count:,} rows; rowids {', '.join(map(str, rows.rowids))}{rows.more}"
            for kind, rows in self.rows.items()
            if rows.count
        ]
        lines += _first(f"{note.kind}: {note.place}: {note.text}" for note in self.notes)
        return lines + _first(f"note: {remark.place}: {remark.text}" for remark in self.remarks)


def _note(kind: str, place: object, text: str) -> Note:
    # A path's bytes need not be UTF-8; what is printed must be.
    return Note(kind, *(str(part).encode("utf-8", "backslashreplace").decode() for part in (place, text)))


def _first(lines: Iterable[str]) -> list[str]:
    """The lines, or the first of many."""
    every = list(lines)
    rest = len(every) - _NOTES_SHOWN
    return [*every[:_NOTES_SHOWN], f"… and {rest:,} more; --json has them all"] if rest > 0 else every
