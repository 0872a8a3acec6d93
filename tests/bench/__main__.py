"""python -m tests.bench: measures the migration and its peers on invented tables, and checks their shards."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.bench import commands, report
from tests.bench.check import Wrong
from tests.bench.measure import Failed
from tests.bench.scenarios import Bench, Options, Scenario
from tests.bench.sources import Variant, cache_dir

PEERS = ("python", "duckdb")

app = typer.Typer(add_completion=False)


@app.command()
def main(
    *,
    scenario: Annotated[Scenario, typer.Option(help="What to compare.")] = Scenario.LOAD,
    rows: Annotated[int, typer.Option(min=1000, help="Rows of the source.")] = 1_000_000,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each case; figures are medians.")] = 3,
    shards: Annotated[int, typer.Option(min=1, max=4096, help="Hash shards; keyless rows get one more.")] = 10,
    variant: Annotated[Variant, typer.Option(help="variant: 3 of 12 columns mix storage classes.")] = Variant.STRICT,
    peers: Annotated[str, typer.Option(help="Peers of the load, with commas between them, or nothing.")] = ",".join(
        PEERS
    ),
    limit: Annotated[
        str | None,
        typer.Option(help="A program of one thread that does the load as COMMAND SOURCE EMPTY_DIR: the limit."),
    ] = None,
    settings: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the migration; repeatable.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the last shards where they are.")] = False,
    json: Annotated[str | None, typer.Option(help="Write JSON to this file; - is standard output.")] = None,
) -> None:
    """Measure the migration and its peers in turn on the same invented table, and check the shards of each.

    Sources are cached in ~/.cache/shard-migrate-bench, or in SHARD_MIGRATE_BENCH_DIR.

    Exit codes: 0 done, 1 a program failed or made wrong shards, 2 misused.
    """
    chosen = [name for name in peers.split(",") if name]
    if unknown := sorted(set(chosen) - set(PEERS)):
        raise typer.BadParameter(f"{', '.join(unknown)}: expected of {', '.join(PEERS)}", param_hint="--peers")
    pairs = [text.partition("=") for text in settings or ()]
    if not all(name and mark for name, mark, _ in pairs):
        raise typer.BadParameter("expected NAME=VALUE", param_hint="--settings")
    program = commands.program(limit) if limit else None
    if limit and program is None:
        raise typer.BadParameter(f"{limit}: no such program", param_hint="--limit")
    named = {name: value for name, _, value in pairs}
    options = Options(rows, runs, shards, variant, chosen, program, named)
    progress = Console(stderr=True)
    try:
        with _work_dir(keep=keep) as work_dir:
            found = Bench(work_dir, options, lambda line: progress.print(line, highlight=False)).run(scenario)
    except (Failed, Wrong) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    report.show(Console(stderr=json == "-"), scenario, options, found)
    if json == "-":
        print(report.as_json(scenario, options, found))
    elif json:
        Path(json).write_text(report.as_json(scenario, options, found) + "\n", encoding="utf-8")


@contextmanager
def _work_dir(*, keep: bool) -> Iterator[Path]:
    cache_dir().mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=cache_dir(), prefix="run-"))
    try:
        yield directory
        if keep:
            print(f"shards are in {directory}", file=sys.stderr)
    finally:
        if not keep:
            shutil.rmtree(directory)


if __name__ == "__main__":
    app(prog_name="python -m tests.bench")
