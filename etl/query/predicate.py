"""Translates a Polars predicate into SQL that never loses a row.

The SQL may select more rows than the predicate, never fewer, because Polars applies the predicate again. So a part of
an AND that has no SQL form is left out. A comparison of reals allows a small tolerance, because SQLite may parse a
decimal literal to a slightly different real than Polars does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from etl.core.model import Affinity
from etl.sqlite import sql

_COMPARISONS = {"Eq": "=", "EqValidity": "IS", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
_MIRRORED = {"Eq": "Eq", "EqValidity": "EqValidity", "Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq"}
_MAX_VALUES = 1_000
_TOLERANCE = 1e-12

Node = Any
"""A node of the predicate's JSON form."""


@dataclass(frozen=True, slots=True)
class Operand:
    """What the translation must know about a column."""

    dtype: pl.DataType
    affinity: Affinity
    bytewise: bool
    """Whether SQLite orders its text as Polars does: by UTF-8 bytes."""


def to_sql(predicate: pl.Expr, columns: Mapping[str, Operand]) -> str | None:
    """A condition that is true for every row that the predicate selects; None if there is none."""
    try:
        node = json.loads(predicate.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError):  # it calls a Python function, or this is another version's form
        return None
    return _condition(node, columns)


def _condition(node: Node, columns: Mapping[str, Operand]) -> str | None:  # noqa: PLR0911 - one return for each shape of node
    match node:
        # Polars does not promise this form. A field that is not known here may change what a node means.
        case {"BinaryExpr": fields} if fields.keys() != {"left", "op", "right"}:
            return None
        case {"Function": fields} if fields.keys() != {"input", "function"}:
            return None
        case {"BinaryExpr": {"left": left, "op": ("And" | "LogicalAnd"), "right": right}}:
            known = [text for text in (_condition(left, columns), _condition(right, columns)) if text]
            return f"({' AND '.join(known)})" if known else None
        case {"BinaryExpr": {"left": left, "op": ("Or" | "LogicalOr"), "right": right}}:
            either = (_condition(left, columns), _condition(right, columns))
            return f"({either[0]} OR {either[1]})" if all(either) else None
        case {"BinaryExpr": {"left": {"Column": name}, "op": op, "right": {"Literal": {"Scalar": value}}}}:
            return _comparison(name, op, value, columns)
        case {"BinaryExpr": {"left": {"Literal": {"Scalar": value}}, "op": op, "right": {"Column": name}}}:
            return _comparison(name, _MIRRORED.get(op, ""), value, columns)
        case {"Function": {"input": [{"Column": name}], "function": {"Boolean": ("IsNull" | "IsNotNull") as test}}}:
            known_null = name in columns and not isinstance(columns[name].dtype, pl.Struct)
            return f"{sql.cell_of(name)} IS {'NOT ' * (test == 'IsNotNull')}NULL" if known_null else None
        case {
            "Function": {
                "input": [{"Column": name}, {"Literal": {"Scalar": {"List": packed}}}],
                "function": {"Boolean": {"IsIn": options}},
            }
        } if options == {"nulls_equal": False}:
            return _membership(name, bytes(packed), columns)
        case {
            "Function": {
                "input": [{"Column": name}, {"Literal": {"Scalar": low}}, {"Literal": {"Scalar": high}}],
                "function": {"Boolean": {"IsBetween": _}},
            }
        }:
            bounds = (_comparison(name, "GtEq", low, columns), _comparison(name, "LtEq", high, columns))
            return f"({bounds[0]} AND {bounds[1]})" if all(bounds) else None
    return None


def _comparison(  # noqa: PLR0911 - one return for each dtype
    name: str, op: str, scalar: Node, columns: Mapping[str, Operand]
) -> str | None:
    if name not in columns or op not in _COMPARISONS:
        return None
    operand, cell = columns[name], sql.cell_of(name)
    match operand.dtype, scalar:
        case pl.Int64(), {"Int64": int(value)}:
            return f"{cell} {_COMPARISONS[op]} {value}"
        case pl.Float64(), {"Float64": float(value)} if math.isfinite(value):
            tolerance = abs(value) * _TOLERANCE + 5e-300
            low, high = value - tolerance, value + tolerance
            if not (math.isfinite(low) and math.isfinite(high)):
                return None
            return {
                "=": f"{cell} BETWEEN {low!r} AND {high!r}",
                "IS": f"{cell} BETWEEN {low!r} AND {high!r}",
                "<": f"{cell} <= {high!r}",
                "<=": f"{cell} <= {high!r}",
                ">": f"{cell} >= {low!r}",
                ">=": f"{cell} >= {low!r}",
            }[_COMPARISONS[op]]
        case pl.String(), {"String": str(value)} if _stays_text(value, operand):
            if op in ("Eq", "EqValidity"):
                # The column's own collation may select more rows than Polars does, and its index can be used.
                return f"{cell} {_COMPARISONS[op]} {sql.literal(value)}"
            # A NUMERIC column may compare the literal as a number; text in another encoding sorts differently.
            if operand.bytewise and operand.affinity in (Affinity.TEXT, Affinity.BLOB):
                return f"{cell} COLLATE BINARY {_COMPARISONS[op]} {sql.literal(value)}"
    return None


def _membership(name: str, packed: bytes, columns: Mapping[str, Operand]) -> str | None:
    values = pl.read_ipc_stream(packed).to_series()
    if values.dtype not in (pl.Int64, pl.String) or not 0 < len(values) <= _MAX_VALUES or name not in columns:
        return None
    operand = columns[name]
    if values.dtype != operand.dtype:
        return None
    if values.dtype == pl.String and not all(_stays_text(text, operand) for text in values.drop_nulls()):
        return None
    listed = [str(value) if isinstance(value, int) else sql.literal(value) for value in values.drop_nulls()]
    return f"{sql.cell_of(name)} IN ({', '.join(listed)})"


def _stays_text(value: str, operand: Operand) -> bool:
    """Whether SQLite compares this literal as text.

    SQL text ends at a NUL, and a NUMERIC column converts a literal that looks like a number.
    """
    if "\0" in value:
        return False
    if operand.affinity in (Affinity.TEXT, Affinity.BLOB):
        return True
    try:
        float(value)
    except ValueError:
        return True
    return False
