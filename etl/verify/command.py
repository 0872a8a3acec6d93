"""python -m etl.verify: proves that source and shards hold the same rows, and repairs what differs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from etl.core.errors import Refused
from etl.runtime import files, log
from etl.runtime.console import Version, errors_as_lines, print_result, replace_closed_streams
from etl.runtime.options import Verbose, speaks
from etl.runtime.session import private_files, session
from etl.runtime.settings import Settings, load
from etl.runtime.signals import Interrupt
from etl.verify import verification
from etl.verify.checker import Stopped
from etl.verify.outcome import Outcome
from etl.verify.repair import Permits
from etl.verify.scope import Scope

_ENV_FILE = Path(".env")


@errors_as_lines
def run(
    environ: Mapping[str, str],
    env_file: Path | None = None,
    *,
    scope: Scope = Scope(),  # noqa: B008 - a frozen value
    repair: bool = False,
    force: bool = False,
    delete_foreign: bool = False,
    as_json: bool = False,
    speaks: bool = True,
) -> int:
    """One verification with the settings of `environ` over `env_file`; the exit code.

    With `force` a repair runs even if the source seems to be another file than before; with `delete_foreign` it deletes
    rows that no run wrote. Unless it `speaks`, it prints nothing where source and shards are equal.
    """
    permits = Permits(force=force, delete_foreign=delete_foreign) if repair else None
    with private_files(), Interrupt() as interrupt:
        outcome = _locked(load(environ, env_file), scope, interrupt, permits, speaks=speaks)
        if outcome is None:
            print_result(f"stopped by {interrupt.name}: nothing is proved; run again")
            return interrupt.exit_code
        if outcome.is_news or speaks or as_json:
            print_result(
                json.dumps(outcome.as_json(), ensure_ascii=False, indent=1) if as_json else "\n".join(outcome.lines())
            )
        return outcome.exit_code


def _locked(
    settings: Settings, scope: Scope, interrupt: Interrupt, permits: Permits | None, *, speaks: bool
) -> Outcome | None:
    """Verifies in a session of its own; None if a signal stopped it."""
    if not settings.SHARD_DIR.is_dir():
        raise Refused(f"SHARD_DIR={settings.SHARD_DIR}: expected shards to verify, found no directory; run migrate")
    files.check(settings, files.LOCK, files.RUN, *files.OF_A_VERIFICATION)
    with session(settings, log_name="verify", speaks=speaks) as current:
        try:
            outcome = verification.run(settings, scope, permits, run_id=current.run_id, stop=interrupt.stop)
        except Stopped:
            current.exit_code = interrupt.exit_code
            return None
        current.exit_code = outcome.exit_code
        result = outcome.as_json()
        log.event("verified", **result)
        verification.store(settings, result)
        return outcome


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check each file with quick_check instead of integrity_check.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    shard: Annotated[list[int] | None, typer.Option(help="Only this shard; may be repeated.")] = None,
    since: Annotated[int | None, typer.Option(help="Only windows that end at this rowid or later.")] = None,
    sample: Annotated[
        float | None,
        typer.Option(help="Only this percentage of the blocks, at least one, chosen at random.", min=0.001, max=100.0),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Make the rows that differ like the source's.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="With --repair: even if the source seems to be another file, or many rows differ."
        ),
    ] = False,
    delete_foreign: Annotated[
        bool, typer.Option("--delete-foreign", help="With --repair: also delete rows that no run wrote.")
    ] = False,
    verbose: Verbose = False,
    version: Version = False,  # noqa: ARG001 - its callback has already run
) -> None:
    """Prove that the shards hold the rows of the source, cell for cell, each in the shard of its key.

    Only one run or verification works at a time; a second one exits with code 3 and names the first.

    Exit codes: 0 equal, 1 failed, 2 misconfigured or refused, 3 a run is at work, 4 different, 129/130/143 stopped.

    Example: SOURCE_DB=clients.db SHARD_DIR=shards python -m etl.verify --quick
    """
    replace_closed_streams()
    for name, given in (("--force", force), ("--delete-foreign", delete_foreign)):
        if given and not repair:
            raise typer.BadParameter(f"{name} goes with --repair")
    scope = Scope(quick=quick, shards=frozenset(shard) if shard else None, since=since, percent=sample)
    raise typer.Exit(
        run(
            os.environ,
            _ENV_FILE,
            scope=scope,
            repair=repair,
            force=force,
            delete_foreign=delete_foreign,
            as_json=as_json,
            speaks=speaks(verbose=verbose),
        )
    )
