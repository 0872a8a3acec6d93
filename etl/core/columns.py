"""How each column travels from source to shard: in a strict read type, or as a variant that carries any cell.

A frame has the column `rowid` and then, for the carried column at position i, `c<i>`; for a variant the four columns
`c<i>_tag`, `c<i>_integer`, `c<i>_real` and `c<i>_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from etl.core.model import Affinity, Column, ReadType, Table

ROWID = "rowid"
GROUP = "column_group"
"""The result column with the number of a row's column group, where there are several."""
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
        return _frame_columns(position, self.types[position])

    def written(self, table: Table) -> Iterator[tuple[Column, tuple[str, ...]]]:
        """Each column that is written to a shard, with its frame columns, in the order of an insert's parameters."""
        for position, column in enumerate(table.carried):
            if not column.generated:
                yield column, self.frame_columns(position)

    def widened(self, *positions: int) -> ReadTypes:
        """The same with variants at these positions. A read type only ever widens."""
        types = list(self.types)
        for position in positions:
            types[position] = ReadType.VARIANT
        return ReadTypes(tuple(types))

    @property
    def variants(self) -> frozenset[int]:
        """The positions of the variants."""
        return frozenset(p for p, read_type in enumerate(self.types) if read_type is ReadType.VARIANT)

    @property
    def width(self) -> int:
        """How many columns a frame has, the rowid's included."""
        return 1 + sum(len(self.frame_columns(position)) for position in range(len(self.types)))

    def grouped(self, most: int) -> ColumnGroups:
        """The fewest column groups of up to `most` result columns each, at least ten."""
        by_type: dict[ReadType, list[int]] = {}
        # The last column first: where a row's header is longer than its page, SQLite reads the header again for each
        # column that comes later in it than all before.
        for position in reversed(range(len(self.types))):
            by_type.setdefault(self.types[position], []).append(position)

        def result_columns(number: int) -> int:
            cells = sum(len(self.frame_columns(each[0])) * -(-len(each) // number) for each in by_type.values())
            return cells + (1 if number == 1 else 2)

        number = next(number for number in count(1) if result_columns(number) <= most)
        sizes = {read_type: -(-len(each) // number) for read_type, each in by_type.items()}
        groups: list[tuple[int | None, ...]] = []
        for group in range(number):
            places: list[int | None] = []
            for read_type, each in by_type.items():
                size = sizes[read_type]
                part = each[group * size : (group + 1) * size]
                places += [*part, *[None] * (size - len(part))]
            groups.append(tuple(places))
        types = tuple(read_type for read_type, size in sizes.items() for _ in range(size))
        return ColumnGroups(ReadTypes(types), tuple(groups))


@dataclass(frozen=True, slots=True)
class ColumnGroups:
    """A table's carried columns in groups: a query has up to 2,000 result columns, and a frame up to 8,001 columns.

    A query brings one group after the other, in the same result columns. So each *place* has one read type, and a
    group has a column of this read type there, or none.
    """

    places: ReadTypes
    groups: tuple[tuple[int | None, ...], ...]
    """The position of the carried column that each group has at each place."""

    @property
    def leading(self) -> tuple[str, ...]:
        """The result columns before the cells."""
        return (ROWID, GROUP) if len(self.groups) > 1 else (ROWID,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all result columns."""
        places = range(len(self.places.types))
        return (*self.leading, *(name for place in places for name in self.places.frame_columns(place)))

    def frame_names(self, group: int) -> dict[str, str]:
        """The frame column of each result column in which the group has cells."""
        return {
            result_name: name
            for place, position in enumerate(self.groups[group])
            if position is not None
            for result_name, name in zip(
                self.places.frame_columns(place), _frame_columns(position, self.places.types[place]), strict=True
            )
        }

    def positions_of(self, result_column: int) -> list[int]:
        """The carried columns, up to one of each group, of a result column (0 is the rowid)."""
        places = [place for place in range(len(self.places.types)) for _ in self.places.frame_columns(place)]
        cell = result_column - len(self.leading)
        if not 0 <= cell < len(places):
            return []
        found = (group[places[cell]] for group in self.groups)
        return [position for position in found if position is not None]


def _frame_columns(position: int, read_type: ReadType) -> tuple[str, ...]:
    name = f"c{position}"
    if read_type is ReadType.VARIANT:
        return (f"{name}_tag", f"{name}_integer", f"{name}_real", f"{name}_bytes")
    return (name,)


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
