"""python -m etl.verify: proves that source and shards hold the same rows, and repairs what differs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from etl.core.errors import EtlError, Refused
from etl.runtime import files, lock, log
from etl.runtime.console import Version, errors_as_lines, print_json, print_result
from etl.runtime.lock import Turn
from etl.runtime.options import Application, Budget, Given, StopAfter, Verbose, speaks, with_settings
from etl.runtime.session import private_files, session
from etl.runtime.settings import Settings, load
from etl.runtime.signals import Interrupt
from etl.shards import shard_set
from etl.status import metrics
from etl.verify.halt import Halt
from etl.verify.outcome import Outcome, store
from etl.verify.repair import Permits
from etl.verify.scope import Scope
from etl.verify.verification import Verification


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
    stop_after_s: float | None = None,
) -> int:
    """One verification with the settings of `environ` over `env_file`; the exit code.

    With `force` a repair runs even if the source seems to be another file than before; with `delete_foreign` it deletes
    rows that no run wrote. Unless it `speaks`, it prints nothing where source and shards are equal.
    """
    permits = Permits(force=force, delete_foreign=delete_foreign) if repair else None
    with private_files(), Interrupt(stop_after_s) as interrupt:
        settings = load(environ, env_file)
        outcome, exit_code = interrupt.call(lambda: _locked(settings, scope, interrupt, permits, speaks=speaks))
        if outcome.is_news or speaks or as_json:
            if as_json:
                print_json(outcome.as_json())
            else:
                print_result("\n".join(outcome.lines(stopped_by=interrupt.name)))
        return exit_code


def _locked(
    settings: Settings, scope: Scope, interrupt: Interrupt, permits: Permits | None, *, speaks: bool
) -> tuple[Outcome, int]:
    """Verifies in a session of its own; the outcome and the exit code."""
    if not settings.SHARD_DIR.is_dir():
        raise Refused(f"SHARD_DIR={settings.SHARD_DIR}: expected shards to verify, found no directory; run migrate")
    files.check(settings, *files.OF_A_VERIFICATION)
    work = lock.VERIFICATION if permits is None else lock.RUN  # a repair writes
    with session(settings, log_name="verify", speaks=speaks, work=work) as current:
        turn = Turn(settings.SHARD_DIR) if permits is None else None
        halt = Halt(interrupt.stop, scope.budget_s, turn.is_wanted if turn else lambda: False)
        before = shard_set.file_states(settings)
        try:
            outcome = Verification(settings, scope, permits, run_id=current.run_id, halt=halt, turn=turn).run()
        except (EtlError, OSError):
            files.check_directory(settings.SHARD_DIR)  # it explains the error
            raise
        current.exit_code = (interrupt.exit_code if outcome.is_stopped else 0) or outcome.exit_code
        result = outcome.as_json()
        result["shard_files"] = before if before == shard_set.file_states(settings) else None
        log.event("verified", **result)
        store(settings, result)
        try:
            metrics.follow_verification(settings)
        except OSError as error:  # the run that comes next writes it, or says why not
            log.event("metrics", "WARNING", not_written=str(settings.METRICS_FILE), reason=error.strerror)
        return outcome, current.exit_code


app = Application()


@app.command()
@with_settings
def main(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check each file with quick_check instead of integrity_check.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    shard: Annotated[list[int] | None, typer.Option(metavar="N", help="Only this shard; may be repeated.")] = None,
    since: Annotated[
        int | None, typer.Option(metavar="ROWID", help="Only windows that end at this rowid or later.")
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="Only this percentage of the blocks, at least one, chosen at random.",
            min=0.001,
            max=100.0,
        ),
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
    budget: Budget = None,
    stop_after: StopAfter = None,
    verbose: Verbose = False,
    given: Given,
    version: Version = False,  # noqa: ARG001 - its callback has already run
) -> None:
    """Prove that the shards hold the rows of the source, cell for cell, each in the shard of its key.

    It gives way to a run at the end of a block, and goes on after it. A second verification exits with code 3, and
    so does --repair during a run.

    Exit codes: 0 equal, 1 failed, 2 misconfigured, refused or load unfinished, 3 already running, 4 different,
    129/130/143 stopped.

    Example: SOURCE_DB=clients.db SHARD_DIR=shards python -m etl.verify --quick
    """
    for name, is_given in (("--force", force), ("--delete-foreign", delete_foreign)):
        if is_given and not repair:
            raise typer.BadParameter(f"{name} goes with --repair")
    scope = Scope(quick=quick, shards=frozenset(shard) if shard else None, since=since, percent=sample, budget_s=budget)
    raise typer.Exit(
        run(
            given.environ,
            given.env_file,
            scope=scope,
            repair=repair,
            force=force,
            delete_foreign=delete_foreign,
            as_json=as_json,
            speaks=speaks(verbose=verbose),
            stop_after_s=stop_after,
        )
    )
