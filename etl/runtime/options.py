"""Options that several commands have, the same in each: how long, how loud, and an option for each setting."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from etl.core.errors import Refused
from etl.runtime.console import print_warning
from etl.runtime.settings import Settings, misspelled

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


@dataclass(frozen=True, slots=True)
class Given:
    """Where the settings of a command come from."""

    environ: Mapping[str, str]
    """The environment, with the settings that are given as options."""
    env_file: Path
    """It may be missing."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options --env-file and, for each setting, --its-name to a command with a parameter `given: Given`.

    Names that are no setting but close to one are printed as warnings.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "given"
    ]

    @wraps(command)
    def wrapped(*args: Any, env_file: Path | None, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name) for name in Settings.model_fields}
        given = {name: text for name, text in options.items() if text is not None}
        file = env_file or Path(".env")
        with suppress(Refused):  # a file that cannot be read is an error later
            for warning in misspelled(os.environ, file):
                print_warning(warning)
        command(*args, given=Given({**os.environ, **given}, file), **kwargs)

    added = [_keyword("env_file", _ENV_FILE), *(_keyword(name, _option(name)) for name in Settings.model_fields)]
    wrapped.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]  # typer reads it
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return wrapped


_ENV_FILE = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Read settings from this file instead of .env.",
        rich_help_panel="Settings",
    ),
]


def _option(name: str) -> Any:
    flag = f"--{name.lower().replace('_', '-')}"
    meaning = Settings.model_fields[name].description
    return Annotated[str | None, typer.Option(flag, metavar="VALUE", help=meaning, rich_help_panel="Settings")]


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
