"""The checkpoint of a run: what the shards hold, by their own ledgers, and what is left to load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from etl.core import ranges
from etl.core.backlog import Backlog, left_to_load
from etl.core.model import Index, LedgerLine, RowidRange
from etl.shards import ledger
from etl.shards.contents import ShardContents
from etl.shards.ledger import FirstRun
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
    partial: Sequence[Sequence[RowidRange]]
    """The windows to discard before anything is loaded."""
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
        rows: dict[RowidRange, dict[int, int]] = {}
        for window, lacking in self.backlog.lost.items():
            having = [slot for slot in range(len(self.lines)) if slot not in lacking]
            rows[window] = {slot: sum(line.rows for line in ledger.within(window, self.lines[slot])) for slot in having}
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
        return later([each.first_run if each else None for each in self.found]) | lost

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
    while len(set(coverages)) > 1:
        outside = done
        lines = each(
            lambda pair: pair[0].windows_outside(outside) if pair[1] else [],  # noqa: B023 - called at once
            zip(shards, found, strict=True),
        )
        # A joined line may reach into what is done: then that is not done as a whole, and other lines reach into it.
        done = ranges.subtract(outside, ranges.union(line.window for of_slot in lines for line in of_slot))
        if done == outside:
            break
    partial, lost = _incomplete(found, coverages, lines)
    discarded = sorted({window for windows in partial for window in windows})
    return Checkpoint(found, lines, partial, done, left_to_load(rowids, done, partial=discarded, lost=lost))


def later(first_runs: Sequence[FirstRun | None]) -> dict[int, str | None]:
    """The slots whose ledger begins with a later run than the earliest: slot → when that run began (`moment`)."""
    earliest = min((first.run_id for first in first_runs if first), default="")
    return {slot: first.started for slot, first in enumerate(first_runs) if first and first.run_id > earliest}


def without_proof(unproved: Mapping[int, str | None], proved_at: str | None) -> list[int]:
    """The slots that were filled after `proved_at` (ISO 8601, UTC), or are not filled yet."""
    proved = ledger.moment(proved_at or "")
    return [slot for slot, since in unproved.items() if not (since and since < proved)]


def _incomplete(
    found: Sequence[ShardContents | None], coverages: Sequence[ranges.Coverage], lines: Sequence[Sequence[LedgerLine]]
) -> tuple[list[list[RowidRange]], dict[RowidRange, frozenset[int]]]:
    """The windows that only some shards have: by slot those that a killed run left, and those that lost shards lack.

    Where one shard's lines are joined and another's are not, the joined ones count.
    """
    partial: list[list[RowidRange]] = [[] for _ in lines]
    lost: dict[RowidRange, frozenset[int]] = {}
    some_shard_serves = any(each is not None and each.serves for each in found)

    def was_lost(slot: int, completed_at: str) -> bool:
        """Whether the shard was created, or will be created, after a run had completed the window.

        No shard serves before every window is complete. A run discards partial windows before it commits new ones.
        """
        first_run = found_slot.first_run if (found_slot := found[slot]) else None
        return some_shard_serves if first_run is None else first_run.started > completed_at

    for window in ranges.overlapping_merged(line.window for of_slot in lines for line in of_slot):
        here = [ledger.within(window, of_slot) for of_slot in lines]
        lacking = frozenset(slot for slot, coverage in enumerate(coverages) if not ranges.covers(coverage, window))
        complete = [
            ledger.moment(line.committed_at)
            for slot, of_slot in enumerate(here)
            if slot not in lacking
            for line in of_slot
        ]
        if complete and all(was_lost(slot, max(complete)) for slot in lacking):
            lost[window] = lacking
            discarded = lacking  # a rebuild that was killed may have left a part of a joined line
        else:
            discarded = frozenset(range(len(lines)))
        for slot in discarded:
            partial[slot] += [line.window for line in here[slot]]
    return partial, lost
