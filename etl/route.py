"""python -m etl.route KEY…: which shard and file each key belongs to; with --sql, all shards as one view."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from etl.core.routing import shard_of, shard_path
from etl.query import script
from etl.runtime.console import Version, errors_as_lines, print_result, print_warning
from etl.runtime.options import Application, Given, with_settings
from etl.runtime.settings import load
from etl.shards import found_set
from etl.shards.found_set import NoShards, ShardSet

app = Application()


@errors_as_lines
def _script(given: Given, text: Callable[[ShardSet, Sequence[int]], str]) -> int:
    settings = load(given.environ, given.env_file)
    found = found_set.find(settings.SHARD_DIR, settings.TABLE_NAME)
    print_result(text(found, found.shard_map.shards))
    return 0


@errors_as_lines
def _route(given: Given, keys: Sequence[str]) -> int:
    settings = load(given.environ, given.env_file)
    shard_map = settings.shard_map
    try:
        shard_map = found_set.find(settings.SHARD_DIR, settings.TABLE_NAME).shard_map
    except NoShards:
        print_warning(
            f"SHARD_DIR={settings.SHARD_DIR}: no shards of {settings.TABLE_NAME} yet; these are the shards of a run "
            "with the settings of now"
        )
    for key in keys:
        # The bytes as the shell gave them: they need not be UTF-8.
        shard = shard_of(os.fsencode(key), num_shards=shard_map.num_shards, reserved_shard=shard_map.reserved_shard)
        print_result(f"{shard}\t{shard_path(settings.SHARD_DIR, settings.TABLE_NAME, shard)}")
    return 0


@app.command()
@with_settings
def main(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY", help="Keys, as text, exactly as they are in the table.")
    ] = None,
    *,
    given: Given,
    sql: Annotated[bool, typer.Option("--sql", help="The script for the sqlite3 shell.")] = False,
    duckdb: Annotated[bool, typer.Option("--duckdb", help="The script for DuckDB.")] = False,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Print the shard of each key and its file: as the shards in SHARD_DIR say, or, without shards, the settings.

    With --sql or --duckdb, print a script that makes one view of all shards instead.

    Example: NUM_SHARDS=10 python -m etl.route 00012345678
    """
    if bool(keys) + sql + duckdb != 1:
        raise typer.BadParameter("expected either keys, or --sql, or --duckdb")
    if keys:
        raise typer.Exit(_route(given, keys))
    raise typer.Exit(_script(given, script.for_sqlite if sql else script.for_duckdb))


if __name__ == "__main__":
    app(prog_name="python -m etl.route")
