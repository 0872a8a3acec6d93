"""What a census means for a load: each column's lane and why, the key's shape, and what to warn of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from etl.core import columns
from etl.core.model import Affinity, Column, ReadType, Table
from etl.migrate.plan.sample import Census, KeyCensus

_CARRIED = {ReadType.INTEGER: "integer", ReadType.REAL: "real", ReadType.TEXT: "text", ReadType.BLOB: "blob"}


@dataclass(frozen=True, slots=True)
class ColumnForecast:
    """How one column will travel."""

    name: str
    read_type: str
    why: str
    classes: Mapping[str, float]
    """Storage class → its share of the sample."""


@dataclass(frozen=True, slots=True)
class KeyForecast:
    """What the sample's keys are like. Shares are of the sampled rows."""

    name: str
    affinity: str
    null: float
    empty: float
    blank: float
    surrounding_spaces: int
    """How many of the sampled keys have them."""
    with_plus: int
    differing_lengths: int
    shortest: int
    longest: int


def of_column(column: Column, table: Table, found: Census) -> ColumnForecast:
    """The lane that the column will end in, by all of the sample, and the reason."""
    counted = found.classes.get(column.name, Counter())
    cells = max(1, sum(counted.values()))
    classes = {name: count / cells for name, count in sorted(counted.items(), key=lambda pair: -pair[1])}
    first = columns.first_read_type(column, table.encoding)
    misfits = sorted(set(classes) - {"null", _CARRIED.get(first, "")})
    if first is ReadType.VARIANT:
        why = f"{_type_of(column)}; {_mixture(classes)}"
        if table.encoding != "UTF-8" and set(classes) <= {"null", "text"}:
            why = f"the source's text is {table.encoding}"
        return ColumnForecast(column.name, ReadType.VARIANT.value, why, classes)
    if misfits:
        said = ", ".join(f"{classes[name]:.2%} {name}" for name in misfits)
        return ColumnForecast(column.name, ReadType.VARIANT.value, f"widened from {first.value}: {said}", classes)
    return ColumnForecast(column.name, first.value, _type_of(column), classes)


def _type_of(column: Column) -> str:
    if column.affinity in (Affinity.NUMERIC, Affinity.BLOB):
        return f"affinity {column.affinity.value}, by the sample's cells"
    return f"affinity {column.affinity.value}"


def _mixture(classes: Mapping[str, float]) -> str:
    return ", ".join(f"{share:.0%} {name}" for name, share in classes.items()) or "no row to sample"


def of_key(column: Column, keys: KeyCensus) -> KeyForecast:
    """The sample's keys in shares and counts."""
    sampled = max(1, keys.keyless + sum(keys.lengths.values()))
    return KeyForecast(
        name=column.name,
        affinity=column.affinity.value,
        null=keys.null / sampled,
        empty=keys.empty / sampled,
        blank=keys.blank / sampled,
        surrounding_spaces=keys.spaced,
        with_plus=keys.plus,
        differing_lengths=len(keys.lengths),
        shortest=min(keys.lengths, default=0),
        longest=max(keys.lengths, default=0),
    )


def key_warnings(column: Column, keys: KeyCensus, sampled: int) -> list[str]:
    """What an application that hashes keys must know: text is hashed as it is."""
    place = f"SHARD_KEY={column.name}"
    warnings = []
    if column.affinity is not Affinity.TEXT:
        kept = "keeps what it is given" if column.affinity is Affinity.BLOB else "turns digits into numbers, so 07 is 7"
        warnings.append(
            f"{place}: its affinity is {column.affinity.value}, not text: such a column {kept}; the application must "
            "hash what the table has"
        )
    for count, what in (
        (keys.spaced, "have spaces around them"),
        (keys.plus, "have a +"),
        (sum(keys.lengths.values()) if len(keys.lengths) > 1 else 0, f"have {len(keys.lengths)} differing lengths"),
    ):
        if count:
            warnings.append(
                f"{place}: {count:,} of {sampled:,} sampled keys {what}; text is hashed as it is, so the application "
                "must hash exactly what is stored"
            )
    return warnings
