"""Options that several commands have, the same in each: how long, how fast, how loud."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(?:[0-9]{1,9}[smhd])+")


def duration_s(text: str) -> int:
    """The seconds of `90s`, `10m`, `2h`, `1h30m`. Raises typer.BadParameter."""
    if not _DURATION.fullmatch(text):
        raise typer.BadParameter(f"expected a duration such as 90s, 10m or 1h30m, found {text!r}")
    seconds = sum(int(number) * _UNIT_S[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))
    if not 0 < seconds <= _MOST_S:
        raise typer.BadParameter(f"expected a duration above 0 and of at most 365d, found {text!r}")
    return seconds


_MOST_S = 365 * _UNIT_S["d"]

StopAfter = Annotated[
    int | None,
    typer.Option(
        "--stop-after",
        parser=duration_s,
        metavar="DURATION",
        help="Stop after this time (90s, 10m, 2h) with exit code 0; the next run goes on.",
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--budget",
        parser=duration_s,
        metavar="DURATION",
        help="Compare only for this time (90s, 10m, 2h), oldest check first; the next one goes on from there.",
    ),
]
MaxRate = Annotated[
    int | None,
    typer.Option(
        "--max-rate", min=1, metavar="ROWS_PER_S", help="Read so many rows a second on average; goes before MAX_RATE."
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print what a terminal would show, also where there is none.")
]


def speaks(*, verbose: bool) -> bool:
    """Whether a success is told: to a terminal, or because somebody asked; cron would mail it."""
    return verbose or sys.stdout.isatty() or sys.stderr.isatty()
