"""Warnings of what an application's older SQLite reads differently from the SQLite that writes the shards.

As text, a real has 17 significant digits in SQLite 3.52 and later, and 15 in earlier versions. If one version has built
an index on such text, the other does not find some rows by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from etl.core.model import MAX_ROWID, Affinity, Column, Index, Table, folded


def warnings(table: Table, indexed: Mapping[str, Sequence[str | None]], indexes: Iterable[Index]) -> Iterator[str]:
    """The warnings, a sentence each; `indexed` maps each index of a shard to its columns, None for an expression."""
    names = _on_text_of_reals(table, indexed, {index.name: index.sql for index in indexes})
    if names:
        yield (
            f"indexes that may hold text made of reals: {', '.join(names)}; SQLite before 3.52 writes fewer digits and "
            "may not find rows by them: REINDEX with the application's SQLite"
        )
    added = [column.name for column in table.columns if _reads_differently(column)]
    if added:
        yield (
            f"columns whose default SQLite 3.40 and 3.50 read as different types: {', '.join(added)}; the shards have "
            "what 3.50 reads in rows that are older than the column (ALTER TABLE ADD COLUMN)"
        )


def _on_text_of_reals(table: Table, indexed: Mapping[str, Sequence[str | None]], texts: Mapping[str, str]) -> list[str]:
    """The indexes that use a column that may have reals in an expression, WHERE or generated column."""
    reals = {folded(column.name) for column in table.columns if not column.generated and _may_have_reals(column)}
    if not reals:
        return []
    generated = {folded(column.name) for column in table.columns if column.generated}
    names = []
    for name, columns in indexed.items():
        text = folded(texts.get(name, ""))
        computes = None in columns or _mentions(text, ["where"])
        is_on_generated = any(folded(column) in generated for column in columns if column is not None)
        if is_on_generated or (computes and _mentions(text, reals | generated)):
            names.append(name)
    return names


def _may_have_reals(column: Column) -> bool:
    """By declared type or by the sample; a NUMERIC column without sampled cells may have reals."""
    return (
        column.affinity is Affinity.REAL
        or "real" in column.storage_classes
        or (column.affinity is Affinity.NUMERIC and not column.storage_classes - {"null"})
    )


def _mentions(text: str, names: Iterable[str]) -> bool:
    """Whether one of the names is in SQL text, both folded. It may be wrong when it says yes, never when it says no."""
    plain = text.replace('""', '"').replace("``", "`")  # a quote within a quoted name is doubled
    return any(re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", plain) for name in names)


def _reads_differently(column: Column) -> bool:
    """Whether versions differ on the default in rows that are older than the column (found by experiment)."""
    default = "" if column.default is None else folded(column.default).replace(" ", "")
    if column.affinity is Affinity.TEXT:
        return default in ("true", "false")  # integer in 3.40, text in 3.50
    if column.affinity is not Affinity.BLOB or not set(default) & set(".e"):
        return False
    try:
        value = float(default)
    except ValueError:
        return False  # a text, a blob, or no literal
    return value.is_integer() and abs(value) <= MAX_ROWID  # integer in 3.40, real in 3.50
