"""python -m etl.route KEY…: which shard and file each key belongs to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from etl.core.routing import shard_of, shard_path
from etl.runtime.console import Version, errors_as_lines, print_result
from etl.runtime.settings import load

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@errors_as_lines
def _route(keys: Sequence[str]) -> int:
    settings = load(os.environ, Path(".env"))
    for key in keys:
        # The bytes as the shell gave them: they need not be UTF-8.
        shard = shard_of(os.fsencode(key), num_shards=settings.NUM_SHARDS, reserved_shard=settings.RESERVED_SHARD)
        print_result(f"{shard}\t{shard_path(settings.SHARD_DIR, settings.TABLE_NAME, shard)}")
    return 0


@app.command()
def main(
    keys: Annotated[list[str], typer.Argument(help="Keys, as text, exactly as they are in the table.")],
    *,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Print the shard of each key and the file of that shard, by the settings that a run in this directory has.

    Example: NUM_SHARDS=10 python -m etl.route 00012345678
    """
    raise typer.Exit(_route(keys))


if __name__ == "__main__":
    app(prog_name="python -m etl.route")
