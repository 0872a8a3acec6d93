"""Taking stock: what the shards hold, by their own ledgers, and what is left to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from etl import plan
from etl.model import Index, LedgerLine, RowidRange
from etl.shard import Found, Shard

T = TypeVar("T")
R = TypeVar("R")


class Each(Protocol):
    """Does a work on each item, several at a time, and gives the results in order."""

    def __call__(self, work: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        """Raises the first error."""
        ...


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is when a run begins. Sequences are by slot."""

    found: Sequence[Found | None]
    """None where a shard has no file yet."""
    lines: Sequence[Sequence[LedgerLine]]
    """Windows that not every shard has."""
    done: plan.Coverage
    """The windows that every shard has."""
    todo: plan.Todo

    @property
    def is_complete(self) -> bool:
        """Whether every row of the source is in a shard that serves."""
        return self.todo.is_nothing and self.is_finished

    @property
    def is_finished(self) -> bool:
        """Whether every shard has its indexes and serves."""
        return all(each is not None and each.finished for each in self.found)

    @property
    def rows(self) -> Sequence[int]:
        """Each shard's rows."""
        return [each.rows if each else 0 for each in self.found]

    @property
    def begun(self) -> dict[RowidRange, dict[int, int]]:
        """The windows that only some shards have: window → slot → rows."""
        rows: dict[RowidRange, dict[int, int]] = {}
        for slot, lines in enumerate(self.lines):
            for line in lines:
                rows.setdefault(line.window, {})[slot] = line.rows
        return rows

    @property
    def growth(self) -> float:
        """How many rowids there are to do for each that is done."""
        span = sum(piece.span for piece in self.done)
        return self.todo.span / span if span else math.inf


def take(shards: Sequence[Shard], rowids: RowidRange | None, indexes: Sequence[Index], each: Each) -> Stock:
    """Looks at every shard; writes nothing. Raises Refused where a file is not ours or of other settings."""
    found = each(lambda shard: shard.find(indexes), shards)
    coverages = [here.coverage if here else () for here in found]
    done = plan.common(coverages)
    lines: list[list[LedgerLine]] = [[] for _ in shards]
    if len(set(coverages)) > 1:
        pairs = zip(shards, found, strict=True)
        lines = each(lambda pair: pair[0].windows_outside(done) if pair[1] else [], pairs)
    return Stock(found, lines, done, plan.todo(rowids, coverages, [[line.window for line in slot] for slot in lines]))
