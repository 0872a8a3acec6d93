"""How each column travels from source to shard: in a strict read type, or as a variant that carries any cell.

A frame has the column `rowid` and then, for the carried column at position i, `c<i>`; for a variant the four columns
`c<i>_tag`, `c<i>_integer`, `c<i>_real` and `c<i>_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etl.core.model import Affinity, Column, ReadType, Table

ROWID = "rowid"
TAGS = {"integer": 1, "real": 2, "text": 3, "blob": 4}
"""A variant's tag for each storage class; 0 is NULL."""

_BY_AFFINITY = {
    Affinity.INTEGER: ReadType.INTEGER,
    Affinity.REAL: ReadType.REAL,
    Affinity.TEXT: ReadType.TEXT,
}
_BY_SAMPLE = {"integer": ReadType.INTEGER, "text": ReadType.TEXT, "blob": ReadType.BLOB}


@dataclass(frozen=True, slots=True)
class ReadTypes:
    """The read type of each carried column of a table, in the table's order."""

    types: tuple[ReadType, ...]

    def frame_columns(self, position: int) -> tuple[str, ...]:
        """The frame's columns for the carried column at `position`."""
        name = f"c{position}"
        if self.types[position] is ReadType.VARIANT:
            return (f"{name}_tag", f"{name}_integer", f"{name}_real", f"{name}_bytes")
        return (name,)

    def position_of(self, result_column: int) -> int | None:
        """The carried column that a query's result column (0 is the rowid) belongs to; None for the rowid."""
        owners = [position for position in range(len(self.types)) for _ in self.frame_columns(position)]
        return owners[result_column - 1] if 1 <= result_column <= len(owners) else None

    def written(self, table: Table) -> Iterator[tuple[Column, tuple[str, ...]]]:
        """Each column that is written to a shard, with its frame columns, in the order of an insert's parameters."""
        for position, column in enumerate(table.carried):
            if not column.generated:
                yield column, self.frame_columns(position)

    def widened(self, *positions: int) -> ReadTypes:
        """The same with variants at these positions. A read type only ever widens."""
        return ReadTypes(
            tuple(ReadType.VARIANT if i in positions else read_type for i, read_type in enumerate(self.types))
        )

    @property
    def width(self) -> int:
        """How many result columns a read has, the rowid's included."""
        return 1 + sum(len(self.frame_columns(position)) for position in range(len(self.types)))


def first_read_types(table: Table) -> ReadTypes:
    """The read types a run starts with: by declared affinity, or by a sample of cells where that says nothing."""
    return ReadTypes(tuple(first_read_type(column, table.encoding) for column in table.carried))


def first_read_type(column: Column, encoding: str) -> ReadType:
    """The read type that one column starts with."""
    read_type = _BY_AFFINITY.get(column.affinity) or _by_sample(column)
    # A UTF-16 source's text would pass through UTF-8, and SQLite turns U+FFFE and U+FFFF into U+FFFD on the way back.
    return ReadType.VARIANT if read_type is ReadType.TEXT and encoding != "UTF-8" else read_type


def widened_columns(table: Table, read_types: ReadTypes) -> tuple[str, ...]:
    """The names of the columns that are wider than they started."""
    first = first_read_types(table).types
    return tuple(
        column.name
        for column, before, now in zip(table.carried, first, read_types.types, strict=True)
        if before is not now
    )


def _by_sample(column: Column) -> ReadType:
    classes = column.storage_classes - {"null"}
    if not classes:
        return ReadType.BLOB if column.affinity is Affinity.BLOB else ReadType.INTEGER
    if len(classes) > 1:
        return ReadType.VARIANT
    # Reals outside a REAL column travel as variants: the read type REAL would turn a later integer into a real.
    return _BY_SAMPLE.get(next(iter(classes)), ReadType.VARIANT)
