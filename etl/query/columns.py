"""How a reader of the shards sees each column: the dtype of its lane, or a struct that carries any cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import polars as pl

from etl.core.columns import TAGS
from etl.core.model import Affinity, Column

EXACT_DTYPE = pl.Struct({"storage_class": pl.String, "integer": pl.Int64, "real": pl.Float64, "bytes": pl.Binary})


class View(Enum):
    """How a column's cells are seen in the frame."""

    INTEGER = "integer"
    REAL = "real"
    NUMBER = "number"
    """A NUMERIC column's integers and reals as reals: SQLite itself stores 5.0 as 5 there."""
    TEXT = "text"
    BLOB = "blob"
    VARIANT = "variant"
    """A struct of storage_class, integer, real and bytes, one of the last three filled; null for NULL."""

    @property
    def dtype(self) -> pl.DataType:
        """The column's dtype."""
        return _DTYPES[self]


_DTYPES: dict[View, pl.DataType] = {
    View.INTEGER: pl.Int64(),
    View.REAL: pl.Float64(),
    View.NUMBER: pl.Float64(),
    View.TEXT: pl.String(),
    View.BLOB: pl.Binary(),
    View.VARIANT: EXACT_DTYPE,
}
_BY_AFFINITY = {Affinity.INTEGER: View.INTEGER, Affinity.REAL: View.REAL, Affinity.TEXT: View.TEXT}


def of(column: Column, classes: frozenset[str], rowid_column: str | None) -> View:
    """The view of a column in which a sample found those storage classes (NULL apart)."""
    if column.name == rowid_column:
        return View.INTEGER
    strict = _BY_AFFINITY.get(column.affinity)
    if strict is not None:
        return strict if classes <= {strict.value} else View.VARIANT
    if column.affinity is Affinity.NUMERIC and "real" in classes and classes <= {"integer", "real"}:
        return View.NUMBER
    empty = "integer" if column.affinity is Affinity.NUMERIC else "blob"
    return View.VARIANT if len(classes) > 1 else View(next(iter(classes), empty))


def columns(views: Mapping[str, View], names: Sequence[str]) -> list[pl.Expr]:
    """The named columns, made of the result columns `c0`, `c1` … of `sql_scan.scan`."""
    expressions, position = [], 0
    for name in names:
        if views[name] is View.VARIANT:
            tag, *values = (pl.col(f"c{position + i}") for i in range(4))
            storage_class = tag.replace_strict({number: each for each, number in TAGS.items()}, default=None)
            fields = zip((storage_class, *values), EXACT_DTYPE.fields, strict=True)
            struct = pl.struct(each.alias(field.name) for each, field in fields)
            expressions.append(pl.when(tag != 0).then(struct).alias(name))
            position += 4
        else:
            expressions.append(pl.col(f"c{position}").alias(name))
            position += 1
    return expressions
