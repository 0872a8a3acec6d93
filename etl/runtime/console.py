"""What every command prints: results, error lines, its version."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TextIO

import typer

from etl.core.errors import EtlError
from etl.runtime.version import VERSION

P = ParamSpec("P")
_SHARD = re.compile(r"_shard_\d{2,}\.db")
SCHEMA_VERSION = 1
"""Of the JSON for programs. It rises where a key changes its meaning or goes; a new key does not raise it."""


def errors_as_lines(command: Callable[P, int]) -> Callable[P, int]:
    """Wraps a command that returns its exit code: it prints an EtlError as lines and returns the error's exit code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except EtlError as error:
            print_errors(*str(error).splitlines())
            return error.exit_code

    return wrapped


def print_errors(*lines: str) -> None:
    with tolerate_closed(sys.stderr):
        for line in once(lines):
            print(fitted(f"error: {line}", sys.stderr), file=sys.stderr)


def print_warning(line: str) -> None:
    with tolerate_closed(sys.stderr):
        print(fitted(f"warning: {line}", sys.stderr), file=sys.stderr)


def print_over_echo(line: str) -> None:
    """Prints on a line of its own, where a terminal has just shown ^C."""
    with tolerate_closed(sys.stderr):
        print(f"\r{line}" if sys.stderr.isatty() else line, file=sys.stderr)


def print_result(text: str) -> None:
    with tolerate_closed(sys.stdout):
        print(fitted(text, sys.stdout))


def once(lines: Iterable[str]) -> list[str]:
    """The lines; of those that differ only in a shard's number the first, with the count of the others."""
    groups: dict[str, list[str]] = {}
    for line in lines:
        groups.setdefault(_SHARD.sub("", line), []).append(line)
    return [
        _SHARD.sub(rf"\g<0> and {len(group) - 1} more", group[0], count=1) if len(group) > 1 else group[0]
        for group in groups.values()
    ]


def fitted(text: str, stream: TextIO) -> str:
    """Long lines broken between words, as a terminal shows them best; elsewhere, and in JSON, they stay whole."""
    if not stream.isatty() or text.startswith("{"):
        return text
    columns = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(
            line,
            columns,
            subsequent_indent=" " * (len(line) - len(line.lstrip()) + 2),
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.splitlines()
    )


def as_json(values: Mapping[str, Any], *, indent: int | None = None) -> str:
    """What a program gets: one object, which begins with `schema_version`."""
    return json.dumps({"schema_version": SCHEMA_VERSION} | dict(values), ensure_ascii=False, indent=indent)


def print_json(values: Mapping[str, Any]) -> None:
    print_result(as_json(values, indent=1))


@contextmanager
def tolerate_closed(stream: TextIO) -> Iterator[None]:
    """Ignores a stream whose reader has gone (`| head`) or whose disk is full: the exit code does not change.

    The stream is then redirected to /dev/null: its buffer would fail again when Python exits. Characters that the
    stream cannot encode, such as a path's bytes that are no UTF-8, are escaped.
    """
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
        stream.flush()
    except OSError:
        with Path(os.devnull).open("w") as null:
            os.dup2(null.fileno(), stream.fileno())


def replace_closed_streams() -> None:
    """Opens /dev/null for each closed standard stream. Otherwise a shard could get its number and its output."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r+", encoding="utf-8"))  # noqa: SIM115 - for the process's life


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        print(f"shard-migrate {VERSION}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]
"""The option --version, the same in every command."""
