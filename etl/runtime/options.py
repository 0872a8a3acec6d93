"""How every command reads its line: durations, an option for each setting, help on 80 columns, harmless suggestions."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from etl.core.errors import Refused
from etl.runtime.console import print_warning, replace_closed_streams
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


def _duration(flag: str, meaning: str) -> Any:
    return typer.Option(flag, parser=duration_s, metavar="DURATION", help=meaning)


_BUDGET = "compare only for this time (90s, 10m, 2h), oldest check first; the next one goes on from there."
StopAfter = Annotated[
    int | None,
    _duration("--stop-after", "Stop after this time (90s, 10m, 2h) with exit code 0; the next run goes on."),
]
Budget = Annotated[int | None, _duration("--budget", _BUDGET.capitalize())]
RefreshBudget = Annotated[int | None, _duration("--budget", f"With --refresh: {_BUDGET}")]
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
    options: Sequence[str] = ()
    """The options among them, as they are written."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options --env-file and, for each setting, --its-name to a command with a parameter `given: Given`.

    It opens closed streams, and prints names that are no setting but close to one as warnings.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "given"
    ]

    @wraps(command)
    def wrapped(*args: Any, env_file: Path | None, **kwargs: Any) -> None:
        given = {name: text for name in Settings.model_fields if (text := kwargs.pop(name)) is not None}
        options = [*(["--env-file"] if env_file else []), *map(_flag, given)]
        file = env_file or Path(".env")
        replace_closed_streams()
        with suppress(Refused):  # a file that cannot be read is an error later
            for warning in misspelled(os.environ, file):
                print_warning(warning)
        command(*args, given=Given({**os.environ, **given}, file, options), **kwargs)

    added = [_keyword("env_file", _ENV_FILE), *(_keyword(name, _option(name)) for name in Settings.model_fields)]
    wrapped.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]  # typer reads it
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return wrapped


_SETTINGS = "Settings, before those of the environment and of .env"

_ENV_FILE = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="file of settings that is read instead of .env",
        rich_help_panel=_SETTINGS,
    ),
]


def _flag(name: str) -> str:
    return f"--{name.lower().replace('_', '-')}"


def _option(name: str) -> Any:
    meaning = str(Settings.model_fields[name].description).replace("`", "")
    return Annotated[str | None, typer.Option(_flag(name), metavar="VALUE", help=meaning, rich_help_panel=_SETTINGS)]


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_DANGEROUS = ("--force", "--allow-deletes", "--delete-foreign")
"""These are never suggested: they are for somebody who has read what they do."""


class _Command(TyperCommand):
    """A command whose help has its settings in a section of their own."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for each in self.get_params(ctx):
            kind = "Arguments" if each.param_type_name == "argument" else "Options"
            if record := each.get_help_record(ctx):
                name, meaning = record[0].partition(" <")[0], record[1]  # without types, as `<list[str]>`
                sections.setdefault(getattr(each, "rich_help_panel", None) or kind, []).append((name, meaning))
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if hasattr(error, "possibilities"):  # an unknown option
                known = [flag for each in self.params for flag in each.opts if flag not in _DANGEROUS]
                longer = [flag for flag in known if flag.startswith(error.option_name)]  # type: ignore[attr-defined]  # it has both
                error.possibilities = longer or [flag for flag in error.possibilities or () if flag in known]
            raise


class Application(typer.Typer):
    """The application of one command. It prints plain text: Typer's boxes lose `[x]` and break sentences."""

    def __init__(self) -> None:
        super().__init__(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    def command(self) -> Callable[[Callable[..., None]], Callable[..., None]]:  # type: ignore[override]  # the only use
        return super().command(cls=_Command)
