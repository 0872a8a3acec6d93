"""The option --version, the same in every command."""

from __future__ import annotations

from typing import Annotated

import typer

from etl import __version__


def _show(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        print(f"shard-migrate {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show, is_eager=True, help="Print the version, and do nothing else.")
]
