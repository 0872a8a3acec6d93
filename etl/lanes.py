"""How each column travels from source to shard: strict lanes, and the exact lane that carries any cell.

A frame has the column `rowid` and then, for the carried column at position i, `c<i>`, or in the exact lane the four
columns `c<i>_tag`, `c<i>_integer`, `c<i>_real` and `c<i>_bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass

from etl.model import Affinity, Column, Lane, Table

ROWID = "rowid"
TAGS = {"integer": 1, "real": 2, "text": 3, "blob": 4}
"""The exact lane's tag for each storage class; 0 is NULL."""

_BY_AFFINITY = {
    Affinity.INTEGER: Lane.INTEGER,
    Affinity.REAL: Lane.REAL,
    Affinity.TEXT: Lane.TEXT,
}
_BY_SAMPLE = {"integer": Lane.INTEGER, "text": Lane.TEXT, "blob": Lane.BLOB}


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lane of each carried column of a table, in the table's order."""

    lanes: tuple[Lane, ...]

    def frame_columns(self, position: int) -> tuple[str, ...]:
        """The frame's columns for the carried column at `position`."""
        name = f"c{position}"
        if self.lanes[position] is Lane.EXACT:
            return (f"{name}_tag", f"{name}_integer", f"{name}_real", f"{name}_bytes")
        return (name,)

    def position_of(self, result_column: int) -> int | None:
        """The carried column that a query's result column (0 is the rowid) belongs to; None for the rowid."""
        owners = [position for position in range(len(self.lanes)) for _ in self.frame_columns(position)]
        return owners[result_column - 1] if 1 <= result_column <= len(owners) else None

    def widened(self, position: int) -> Lanes:
        """The same lanes with one of them exact. A lane only ever widens."""
        return Lanes(tuple(Lane.EXACT if i == position else lane for i, lane in enumerate(self.lanes)))

    @property
    def width(self) -> int:
        """How many result columns a read has, the rowid's included."""
        return 1 + sum(len(self.frame_columns(position)) for position in range(len(self.lanes)))


def first_lanes(table: Table) -> Lanes:
    """The lanes a run starts with: by declared affinity, and by a sample of cells where that says nothing."""
    return Lanes(tuple(first_lane(column, table.encoding) for column in table.carried))


def first_lane(column: Column, encoding: str) -> Lane:
    """The lane that one column starts with."""
    lane = _BY_AFFINITY.get(column.affinity) or _sampled_lane(column)
    # A UTF-16 source's text would pass through UTF-8, and SQLite turns U+FFFE and U+FFFF into U+FFFD on the way back.
    return Lane.EXACT if lane is Lane.TEXT and encoding != "UTF-8" else lane


def _sampled_lane(column: Column) -> Lane:
    classes = column.storage_classes - {"null"}
    if not classes:
        return Lane.BLOB if column.affinity is Affinity.BLOB else Lane.INTEGER
    if len(classes) > 1:
        return Lane.EXACT
    # Reals outside a REAL column go the exact way: a float lane would turn a later integer into a real in silence.
    return _BY_SAMPLE.get(next(iter(classes)), Lane.EXACT)
