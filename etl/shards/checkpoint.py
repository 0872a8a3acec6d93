"""The checkpoint of a run: what the shards hold, by their own ledgers, and what is left to load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from etl.core import ranges
from etl.core.backlog import Backlog, left_to_load
from etl.core.model import Index, LedgerLine, RowidRange
from etl.shards.contents import ShardContents
from etl.shards.ledger import FirstLine
from etl.shards.shard import Shard

T = TypeVar("T")
R = TypeVar("R")


class Each(Protocol):
    """Calls a function for each item, several at a time, and returns the results in order."""

    def __call__(self, work: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        """Raises the first error."""
        ...


def one_by_one(work: Callable[[T], R], items: Iterable[T], /) -> list[R]:
    return [work(item) for item in items]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the shards hold when a run begins. Sequences are by slot."""

    found: Sequence[ShardContents | None]
    """None where a shard has no file yet."""
    lines: Sequence[Sequence[LedgerLine]]
    """Ledger lines of windows that some shards lack."""
    done: ranges.Coverage
    """The windows that every shard has."""
    backlog: Backlog

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to load and every shard serves."""
        return self.backlog.is_nothing and self.is_finished

    @property
    def is_finished(self) -> bool:
        """Whether every shard has its indexes and serves."""
        return all(each is not None and each.is_finished for each in self.found)

    @property
    def rows(self) -> Sequence[int]:
        return [each.rows if each else 0 for each in self.found]

    @property
    def rows_before(self) -> dict[RowidRange, dict[int, int]]:
        """The windows that lost shards lack: window → slot of another shard → rows that it has."""
        rows: dict[RowidRange, dict[int, int]] = {window: {} for window in self.backlog.lost}
        for slot, lines in enumerate(self.lines):
            for line in lines:
                if line.window in rows:
                    rows[line.window][slot] = line.rows
        return rows

    @property
    def unproved(self) -> dict[int, str | None]:
        """The slots of shards that were filled after the others, or will be by this run: slot → when that began.

        Their rows were read from the source later. A row whose key changed in between may be in two shards, or in
        none; only a verification can find out.
        """
        lost: dict[int, str | None] = dict.fromkeys(
            sorted({slot for slots in self.backlog.lost.values() for slot in slots})
        )
        return later([each.first_line if each else None for each in self.found]) | lost

    @property
    def growth(self) -> float:
        """Rowids to load ÷ rowids that are done."""
        span = sum(piece.span for piece in self.done)
        return self.backlog.span / span if span else math.inf


def take(shards: Sequence[Shard], rowids: RowidRange | None, indexes: Sequence[Index], each: Each) -> Checkpoint:
    """Reads every shard; writes nothing. Raises Refused where a file is no shard, or was made with other settings."""
    found = each(lambda shard: shard.find(indexes), shards)
    coverages = [contents.coverage if contents else () for contents in found]
    done = ranges.common(coverages)
    lines: list[list[LedgerLine]] = [[] for _ in shards]
    if len(set(coverages)) > 1:
        pairs = zip(shards, found, strict=True)
        lines = each(lambda pair: pair[0].windows_outside(done) if pair[1] else [], pairs)
    partial, lost = _incomplete(found, coverages, lines)
    return Checkpoint(found, lines, done, left_to_load(rowids, done, partial=partial, lost=lost))


def later(first_lines: Sequence[FirstLine | None]) -> dict[int, str | None]:
    """The slots whose ledger begins with a later run than the earliest: slot → commit time of its first line."""
    earliest = min((line.run_id for line in first_lines if line), default="")
    return {slot: line.committed_at for slot, line in enumerate(first_lines) if line and line.run_id > earliest}


def without_proof(unproved: Mapping[int, str | None], proved_at: str | None) -> list[int]:
    """The slots that were filled after `proved_at`, or are not filled yet. All times are ISO 8601 in UTC."""
    return [slot for slot, since in unproved.items() if not (since and proved_at and since < proved_at)]


def _incomplete(
    found: Sequence[ShardContents | None], coverages: Sequence[ranges.Coverage], lines: Sequence[Sequence[LedgerLine]]
) -> tuple[list[RowidRange], dict[RowidRange, frozenset[int]]]:
    """The windows that only some shards have: those that a killed run left, and those that lost shards lack."""
    partial: list[RowidRange] = []
    lost: dict[RowidRange, frozenset[int]] = {}
    latest_run: dict[RowidRange, str] = {}
    for line in (line for slot in lines for line in slot):
        latest_run[line.window] = max(line.run_id, latest_run.get(line.window, ""))
    some_shard_serves = any(each is not None and each.serves for each in found)

    def was_lost(slot: int, window: RowidRange) -> bool:
        """Whether the shard was created, or will be created, after a run had completed the window.

        No shard serves before every window is complete. A run discards partial windows before it commits new ones.
        """
        first_line = found_slot.first_line if (found_slot := found[slot]) else None
        return some_shard_serves if first_line is None else first_line.run_id > latest_run[window]

    for window in sorted(latest_run):
        slots = frozenset(slot for slot, coverage in enumerate(coverages) if not ranges.covers(coverage, window))
        if all(was_lost(slot, window) for slot in slots):
            lost[window] = slots
        else:
            partial.append(window)
    return partial, lost
