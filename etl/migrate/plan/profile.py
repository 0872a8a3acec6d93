"""What the sample means for a load: each column's read type and why, the key's shape, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from etl.core import columns
from etl.core.model import Affinity, Column, ReadType, Table
from etl.migrate.plan.sample import KeySample, Sample


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """How one column will be read."""

    name: str
    read_type: str
    why: str
    classes: Mapping[str, float]
    """Storage class → its share of the sample."""


@dataclass(frozen=True, slots=True)
class KeyProfile:
    """The sample's keys. Shares are of the sampled rows."""

    name: str
    affinity: str
    null: float
    empty: float
    blank: float
    surrounding_spaces: int
    """How many of the sampled keys have spaces around them."""
    with_plus: int
    differing_lengths: int
    shortest: int
    longest: int


def of_column(column: Column, table: Table, sampled: Sample) -> ColumnProfile:
    """The read type that the column will end with, by the sample, and why."""
    counted = sampled.classes.get(column.name, Counter())
    cells = max(1, sum(counted.values()))
    classes = {name: count / cells for name, count in sorted(counted.items(), key=lambda pair: -pair[1])}
    first = columns.first_read_type(column, table.encoding)
    others = sorted(set(classes) - {"null", first.value})
    if first is ReadType.VARIANT:
        why = f"{_type_of(column)}; {_shares(classes)}"
        if table.encoding != "UTF-8" and set(classes) <= {"null", "text"}:
            why = f"the source's text is {table.encoding}"
        return ColumnProfile(column.name, ReadType.VARIANT.value, why, classes)
    if others:
        shares = ", ".join(f"{classes[name]:.2%} {name}" for name in others)
        return ColumnProfile(column.name, ReadType.VARIANT.value, f"widened from {first.value}: {shares}", classes)
    return ColumnProfile(column.name, first.value, _type_of(column), classes)


def _type_of(column: Column) -> str:
    if column.affinity in (Affinity.NUMERIC, Affinity.BLOB):
        return f"affinity {column.affinity.value}, by the sample's cells"
    return f"affinity {column.affinity.value}"


def _shares(classes: Mapping[str, float]) -> str:
    return ", ".join(f"{share:.0%} {name}" for name, share in classes.items()) or "no row to sample"


def of_key(column: Column, keys: KeySample) -> KeyProfile:
    sampled = max(1, keys.keyless + sum(keys.lengths.values()))
    return KeyProfile(
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


def key_warnings(column: Column, keys: KeySample, sampled: int) -> list[str]:
    """What an application that hashes keys must know: the stored text is hashed unchanged."""
    place = f"SHARD_KEY={column.name}"
    warnings = []
    if column.affinity is not Affinity.TEXT:
        effect = (
            "stores values as they come" if column.affinity is Affinity.BLOB else "stores digits as numbers, 07 as 7"
        )
        warnings.append(
            f"{place}: its affinity is {column.affinity.value}, not text: such a column {effect}; the application must "
            "hash what is stored"
        )
    for count, what in (
        (keys.spaced, "have spaces around them"),
        (keys.plus, "have a +"),
        (sum(keys.lengths.values()) if len(keys.lengths) > 1 else 0, f"have {len(keys.lengths)} different lengths"),
    ):
        if count:
            warnings.append(
                f"{place}: {count:,} of {sampled:,} sampled keys {what}; text is hashed unchanged, so the application "
                "must hash exactly what is stored"
            )
    return warnings
