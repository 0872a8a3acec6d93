"""Errors that end a command: one line for the operator, and an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")


class EtlError(Exception):
    """The work failed: exit code 1. The message says place, expected, found and next step, and never a cell's value."""

    exit_code = 1

    def __str__(self) -> str:
        """The arguments, a line each; characters that cannot be printed are escaped, as in a repr."""
        return "\n".join("".join(map(_printable, str(line))) for line in self.args)


class Refused(EtlError):
    """The run is not possible with these settings, source or shards; no shard was touched: exit code 2."""

    exit_code = 2


class AlreadyRunning(EtlError):
    """Another command is at work in the shard directory: exit code 3."""

    exit_code = 3


@dataclass(slots=True, kw_only=True)
class Refusals:
    """Every reason for a refusal, not only the first."""

    refusals: list[str] = field(default_factory=list)
    exit_code: int = 0

    def refuse(self, error: EtlError) -> None:
        """Adds a reason."""
        self.refusals += str(error).splitlines()
        self.exit_code = max(self.exit_code, Refused.exit_code, error.exit_code)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """An error of the block becomes a reason."""
        try:
            yield
        except EtlError as error:
            self.refuse(error)

    def one_by_one(self, work: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        """The results of the work on each item; an error becomes a reason, and the result of its item None."""
        results: list[R | None] = []
        for item in items:
            results.append(None)
            with self.refusing():
                results[-1] = work(item)
        return cast("list[R]", results)  # None is also what `Shard.find` returns if there is no file


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
