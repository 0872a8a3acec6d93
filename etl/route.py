"""python -m etl.route KEY…: which shard and file each key belongs to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from etl.core.errors import EtlError
from etl.core.routing import shard_of, shard_path
from etl.runtime.settings import load
from etl.runtime.version import Version

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    keys: Annotated[list[str], typer.Argument(help="Keys, as text, exactly as the table has them.")],
    *,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Print each key's shard and the file it is in, by the settings of a run made here.

    Example: NUM_SHARDS=10 python -m etl.route 00012345678
    """
    try:
        settings = load(os.environ, Path(".env"))
    except EtlError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    for key in keys:
        # The bytes as the shell gave them: they need not be UTF-8.
        shard = shard_of(os.fsencode(key), num_shards=settings.NUM_SHARDS, reserved_shard=settings.RESERVED_SHARD)
        print(f"{shard}\t{shard_path(settings.SHARD_DIR, settings.TABLE_NAME, shard)}")


if __name__ == "__main__":
    app(prog_name="python -m etl.route")
