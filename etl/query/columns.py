"""The dtype that a scan gives each column: the dtype of its storage class, or a struct for cells of any class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import polars as pl

from etl.core.columns import TAGS, first_read_type
from etl.core.model import Affinity, Column

VARIANT_DTYPE = pl.Struct({"storage_class": pl.String, "integer": pl.Int64, "real": pl.Float64, "bytes": pl.Binary})


class ColumnKind(Enum):
    """How a column's cells appear in the frame."""

    INTEGER = "integer"
    REAL = "real"
    NUMBER = "number"
    """Integers and reals, all as reals: SQLite itself stores 5.0 as 5 in a NUMERIC column."""
    TEXT = "text"
    BLOB = "blob"
    VARIANT = "variant"
    """A struct of storage_class, integer, real and bytes, of which one of the last three is set; null for NULL."""

    @property
    def dtype(self) -> pl.DataType:
        return _DTYPES[self]


_DTYPES: dict[ColumnKind, pl.DataType] = {
    ColumnKind.INTEGER: pl.Int64(),
    ColumnKind.REAL: pl.Float64(),
    ColumnKind.NUMBER: pl.Float64(),
    ColumnKind.TEXT: pl.String(),
    ColumnKind.BLOB: pl.Binary(),
    ColumnKind.VARIANT: VARIANT_DTYPE,
}


def kind_of(column: Column, encoding: str) -> ColumnKind:
    """The column's first read type in a load, if all its sampled cells fit it; but reals are numbers, not variants."""
    classes = column.storage_classes - {"null"}
    numbers = {Affinity.NUMERIC: {"integer", "real"}, Affinity.BLOB: {"real"}}.get(column.affinity, set())
    if "real" in classes and classes <= numbers:
        return ColumnKind.NUMBER
    read_type = first_read_type(column, encoding).value
    return ColumnKind(read_type) if classes <= {read_type} else ColumnKind.VARIANT


def expressions(kinds: Mapping[str, ColumnKind], names: Sequence[str]) -> list[pl.Expr]:
    """The named columns, built from the result columns `c0`, `c1` … of `sql.scan`."""
    built, position = [], 0
    for name in names:
        if kinds[name] is ColumnKind.VARIANT:
            tag, *values = (pl.col(f"c{position + i}") for i in range(4))
            storage_class = tag.replace_strict({number: each for each, number in TAGS.items()}, default=None)
            fields = zip((storage_class, *values), VARIANT_DTYPE.fields, strict=True)
            struct = pl.struct(each.alias(field.name) for each, field in fields)
            built.append(pl.when(tag != 0).then(struct).alias(name))
            position += 4
        else:
            built.append(pl.col(f"c{position}").alias(name))
            position += 1
    return built
