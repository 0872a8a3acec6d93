"""What every command prints: results, error lines, its version."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TextIO

import typer

from etl.core.errors import EtlError
from etl.runtime.version import VERSION

P = ParamSpec("P")
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
        for line in lines:
            print(f"error: {line}", file=sys.stderr)


def print_warning(line: str) -> None:
    with tolerate_closed(sys.stderr):
        print(f"warning: {line}", file=sys.stderr)


def print_result(text: str) -> None:
    with tolerate_closed(sys.stdout):
        print(text)


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
