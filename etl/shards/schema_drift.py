"""How the source's table differs from that of the shards: columns that can be added, and changes that no run follows.

A shard's own CREATE text is compared, as `sqlite.ddl` says, and not the hash in its identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from etl.core.errors import Refused
from etl.core.model import Table, folded
from etl.shards.contents import ShardContents
from etl.shards.ddl_check import refusal_to_add
from etl.shards.shard import Shard
from etl.sqlite.ddl import Declaration, TableText, parsed


@dataclass(frozen=True, slots=True)
class SchemaDrift:
    """What has changed in the source's schema since a run wrote the shards. By slot, of shards that it concerns."""

    table: Table
    """As it is in the source."""
    common: Table
    """With only those columns that all shards have, with all their values."""
    lacking: Mapping[int, frozenset[str]]
    """New columns that a shard does not have yet."""
    unfilled: Mapping[int, frozenset[str]]
    """New columns that a shard has, but not yet the values of its old rows."""
    faults: Mapping[int, str]
    """A change that no run can follow."""
    altered: Mapping[int, str]
    """The same, where other shards have no such difference: somebody changed the shard, and not the source."""

    @property
    def new(self) -> list[str]:
        """The new columns, in the source's order."""
        names = frozenset[str]().union(*self.lacking.values(), *self.unfilled.values())
        return [column.name for column in self.table.columns if folded(column.name) in names]

    @property
    def next_step(self) -> str:
        """Of a shard set that differs; empty for one that does not."""
        if self.faults:
            return "load the table again into an empty SHARD_DIR"
        return "python -m etl.migrate --evolve" if self.new else ""

    def text(self, slot: int) -> str:
        """How one shard differs; empty if it does not."""
        if slot in self.faults:
            return f"{self.faults[slot]}; {self.next_step}"
        texts = ((self.lacking, "lacks the source's new {}"), (self.unfilled, "lacks values of old rows in its new {}"))
        found = [text.format(_columns(self._named(names[slot]))) for names, text in texts if slot in names]
        return f"{', '.join(found)}; {self.next_step}" if found else ""

    def check(self, source: Path, shards: Sequence[Shard], *, evolve: bool = False) -> None:
        """Raises Refused where there is a difference, but for new columns that are to be added."""
        place = f"SOURCE_DB={source}, TABLE_NAME={self.table.name}"
        for slot, fault in sorted(self.altered.items()):
            raise Refused(
                f"{shards[slot].path}: expected the source's CREATE TABLE, as the other shards have it, found another: "
                f"compared with it, the source has {fault}; move the file away; the next run rebuilds this shard"
            )
        for slot, fault in sorted(self.faults.items()):
            raise Refused(
                f"{place}: expected the columns and constraints of {shards[slot].path.name}, found another schema: "
                f"{fault}; no run can follow this change; load the table again into an empty SHARD_DIR"
            )
        if self.new and not evolve:
            a, them = ("a ", "it") if len(self.new) == 1 else ("", "them")
            raise Refused(
                f"{place}: the source has {a}new {_columns(self.new)}; run with --evolve to add {them} to every shard, "
                "with the values of old rows"
            )

    def _named(self, names: frozenset[str]) -> list[str]:
        return [column.name for column in self.table.columns if folded(column.name) in names]


def of(table: Table, found: Sequence[ShardContents | None]) -> SchemaDrift:
    """The drift of shards that are given by slot; None where there is none, or none that can be read."""
    now = parsed(table.ddl)
    shared = {folded(column.name) for column in table.columns}
    present = {slot: each for slot, each in enumerate(found) if each and each.ddl is not None}
    fates = {ddl: _added(table, ddl, now) for ddl in {str(each.ddl) for each in present.values()}}
    faults = {slot: fate for slot, each in present.items() if isinstance(fate := fates[str(each.ddl)], str)}
    altered = {} if len(faults) == len(present) else faults
    lacking, unfilled = {}, {}
    for slot, each in present.items():
        if slot in altered:
            continue
        shared &= {folded(column.name) for column in parsed(str(each.ddl)).columns} - each.unfilled
        fate = fates[str(each.ddl)]
        if fate and not isinstance(fate, str):
            lacking[slot] = fate
        if each.unfilled:
            unfilled[slot] = each.unfilled
    columns = tuple(column for column in table.columns if folded(column.name) in shared or column is table.key)
    faults = {} if altered else faults
    return SchemaDrift(table, replace(table, columns=columns), lacking, unfilled, faults, altered)


def _added(table: Table, ddl: str, now: TableText) -> frozenset[str] | str:
    """The source's new columns over this CREATE text, or what no run can follow."""
    before = parsed(ddl)
    new = now.columns[len(before.columns) :]
    was, is_now = (tuple(column.tokens for column in text.columns) for text in (before, now))
    if was != is_now[: len(was)]:
        return _changed(before.columns, now.columns)
    if (before.constraints, before.options) != (now.constraints, now.options):
        return "other constraints or options of the table"
    for count, column in enumerate(new, start=1):
        if reason := refusal_to_add(table, ddl, [each.text for each in new[:count]]):
            return f"a new column {column.name} that ALTER TABLE cannot add ({reason})"
    return frozenset(folded(column.name) for column in new)


def _changed(before: Sequence[Declaration], now: Sequence[Declaration]) -> str:
    """How the columns differ, in words."""
    was, is_now = ({folded(column.name): column for column in columns} for columns in (before, now))
    gone = [column for name, column in was.items() if name not in is_now]
    new = [column for name, column in is_now.items() if name not in was]
    if gone and len(before) == len(now) and len(gone) == len(new):
        return f"{_columns([column.name for column in gone])} renamed to {', '.join(column.name for column in new)}"
    if gone:
        return f"without the {_columns([column.name for column in gone])}"
    for name, column in was.items():
        if column.tokens != is_now[name].tokens:
            return f"column {column.name} declared {_shown(is_now[name])}, in the shards {_shown(column)}"
    if new:
        return f"a new {_columns([column.name for column in new])} that is not the last"
    return "columns in another order"


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _shown(column: Declaration) -> str:
    return f"({' '.join(column.text.split())})"
