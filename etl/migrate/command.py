"""python -m etl.migrate: one run, from settings to exit code; also `--plan` and `--demo`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from etl.core.errors import EtlError, Refused
from etl.migrate import demo
from etl.migrate.outcome import Outcome
from etl.migrate.plan import plan as plans
from etl.migrate.plan import render
from etl.migrate.refresh import Refresh, Unchanged
from etl.migrate.run import Migration
from etl.runtime import files, hooks
from etl.runtime.console import (
    Version,
    errors_as_lines,
    print_errors,
    print_json,
    print_result,
    tolerate_closed,
)
from etl.runtime.options import Application, Given, RefreshBudget, StopAfter, Verbose, speaks, with_settings
from etl.runtime.session import private_files, session
from etl.runtime.settings import Settings, load
from etl.runtime.signals import Interrupt
from etl.status import summary
from etl.status.heartbeat import Heartbeat
from etl.status.progress import Progress
from etl.status.status_file import RunStatus
from etl.verify import outcome as verify


@errors_as_lines
def run(
    environ: Mapping[str, str],
    env_file: Path | None = None,
    *,
    force: bool = False,
    evolve: bool = False,
    refresh: Refresh | None = None,
    speaks: bool = True,
    stop_after_s: float | None = None,
) -> int:
    """One migration with the settings of `environ` over `env_file`; the exit code.

    With `force` it goes on although the disk seems too small, or the source seems to be another one than before. With
    `evolve` it adds new columns of the source to the shards. Unless it `speaks`, it prints nothing but warnings and
    errors. With `refresh` old rows are brought to what the source has now, after the new ones are loaded.
    """
    settings = load(environ, env_file)
    with hooks.reported(settings) as report, private_files(), Interrupt(stop_after_s) as interrupt:
        outcome, status, refreshed = interrupt.call(
            lambda: _migrate(settings, interrupt, force=force, evolve=evolve, refresh=refresh, speaks=speaks)
        )
        summary.show(status)
        report.message = _show_outcome(outcome, interrupt, speaks=speaks)
        if refreshed and (speaks or refreshed.exit_code or refreshed.warnings or refreshed.is_stopped):
            print_result("\n".join(refreshed.lines(stopped_by=interrupt.name)))
        report.exit_code = status.exit_code or 0
        report.rows, report.seconds = outcome.rows, outcome.seconds
        report.complete = outcome.is_complete and not (refreshed and refreshed.is_stopped)
    return report.exit_code


@errors_as_lines
def show_plan(
    environ: Mapping[str, str], env_file: Path | None = None, *, evolve: bool = False, as_json: bool = False
) -> int:
    """Prints what a run with these settings would do, and does nothing; the exit code that the run would begin with."""
    planned = plans.make(load(environ, env_file), evolve=evolve)
    if as_json:
        print_json(asdict(planned))
    else:
        render.show(planned)
    print_errors(*planned.refusals)
    return planned.exit_code


@errors_as_lines
def run_demo(rows: int, directory: Path = Path("demo")) -> int:
    """Creates a source of that many rows in `directory` and migrates it with the default settings; the exit code."""
    environ = {
        "SOURCE_DB": str(directory / "clients.db"),
        "SHARD_DIR": str(directory / "shards"),
        "LOG_DIR": str(directory),
    }
    with private_files(), Interrupt() as interrupt:
        settings = load(environ)
        files.check(settings, *files.OF_A_RUN)
        demo.make_source(settings.SOURCE_DB, rows)
        outcome, status, _ = interrupt.call(lambda: _migrate(settings, interrupt))
        with tolerate_closed(sys.stdout):
            Console().print(demo.table_of(status))
        _show_outcome(outcome, interrupt)
        return status.exit_code or 0


def _migrate(
    settings: Settings,
    interrupt: Interrupt,
    *,
    force: bool = False,
    evolve: bool = False,
    refresh: Refresh | None = None,
    speaks: bool = True,
) -> tuple[Outcome, RunStatus, verify.Outcome | Unchanged | None]:
    """Runs in a session of its own, with a heartbeat."""
    files.check(settings, *files.OF_A_RUN, *(files.OF_A_VERIFICATION if refresh else ()))
    try:
        settings.SHARD_DIR.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"SHARD_DIR={settings.SHARD_DIR}: cannot be created ({error.strerror}); choose another") from None
    with session(settings, speaks=speaks) as current:
        progress = Progress()
        heartbeat = Heartbeat(settings, progress, run_id=current.run_id, started=current.started)

        def end(error: EtlError) -> None:
            heartbeat.end("refused" if isinstance(error, Refused) else "failed", error.exit_code, error=str(error))

        current.on_error = end
        heartbeat.start()
        outcome = Migration(
            settings,
            run_id=current.run_id,
            stop=interrupt.stop,
            progress=progress,
            warn=heartbeat.warn,
            force=force,
            evolve=evolve,
        ).run()
        refreshed = None
        if refresh and outcome.is_complete:
            refreshed = refresh.run(settings, run_id=current.run_id, stop=interrupt.stop, force=force)
        is_stopped = not outcome.is_complete or (refreshed is not None and refreshed.is_stopped)
        # A signal that came when nothing was left to do has stopped nothing.
        current.exit_code = (interrupt.exit_code if is_stopped else 0) or (refreshed.exit_code if refreshed else 0)
        progress.rows_updated = outcome.updated + (refreshed.replaced_rows if refreshed else 0)
        status = heartbeat.end("stopped" if is_stopped else outcome.name, current.exit_code)
        current.totals = {"rows": outcome.rows, "rows_per_s": round(status.rows_per_s), "updated": status.rows_updated}
        return outcome, status, refreshed


def _show_outcome(outcome: Outcome, interrupt: Interrupt, *, speaks: bool = True) -> str:
    """Prints the last lines of a run, of a complete one only if it `speaks`; returns the most important."""
    text = outcome.text(interrupt)
    if speaks or not outcome.is_complete:
        if outcome.evolved:
            print_result(f"columns added to every shard: {', '.join(outcome.evolved)}")
        print_result(text)
    for note in outcome.notes:
        print_result(note)
    return text


app = Application()


@app.command()
@with_settings
def main(
    rows: Annotated[
        int | None, typer.Argument(metavar="ROWS", help=f"With --demo: how many to invent; {demo.ROWS} by default.")
    ] = None,
    *,
    with_demo: Annotated[
        bool, typer.Option("--demo", help="Create a source in demo/ and migrate it; needs no settings.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Go on although the disk seems too small, or the source seems to be another one."),
    ] = False,
    evolve: Annotated[
        bool,
        typer.Option("--evolve", help="Add new columns of the source to every shard, with the values of old rows."),
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Also bring old rows that changed or are gone to what the source has now.")
    ] = False,
    allow_deletes: Annotated[
        int | None,
        typer.Option("--allow-deletes", min=0, metavar="N", help="With --refresh: delete up to N rows that are gone."),
    ] = None,
    delete_foreign: Annotated[
        bool, typer.Option("--delete-foreign", help="With --refresh: also delete rows that no run wrote.")
    ] = False,
    budget: RefreshBudget = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what a run would do, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --plan: print it as one JSON object.")] = False,
    stop_after: StopAfter = None,
    verbose: Verbose = False,
    given: Given,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Move one table of an SQLite file into shard files, or add its new rows to them.

    Settings are options here, in the environment, or in the file .env. Without a terminal, as in cron, a run that
    succeeds prints nothing.

    Exit codes: 0 done, 1 failed, 2 misconfigured or refused, 3 already running, 4 a refresh left differences,
    129/130/143 stopped by a signal.

    Example: SOURCE_DB=clients.db SHARD_DIR=shards python -m etl.migrate --plan
    """
    if plan and (with_demo or rows is not None):
        raise typer.BadParameter("--plan and --demo do not go together")
    if with_demo and given.options:
        raise typer.BadParameter(f"--demo has settings of its own; leave out {', '.join(given.options)}")
    if (plan or with_demo) and (refresh or stop_after is not None):
        raise typer.BadParameter("--plan and --demo take no --refresh and no --stop-after")
    if evolve and with_demo:
        raise typer.BadParameter("--evolve needs a run or --plan, not --demo")
    if (allow_deletes is not None or delete_foreign or budget is not None) and not refresh:
        raise typer.BadParameter("--allow-deletes, --delete-foreign, --budget need --refresh")
    if as_json and not plan:
        raise typer.BadParameter("--json needs --plan")
    if plan:
        raise typer.Exit(show_plan(given.environ, given.env_file, evolve=evolve, as_json=as_json))
    if rows is not None and not with_demo:
        raise typer.BadParameter("a number of rows needs --demo")
    if with_demo:
        raise typer.Exit(run_demo(demo.ROWS if rows is None else rows))
    raise typer.Exit(
        run(
            given.environ,
            given.env_file,
            force=force,
            evolve=evolve,
            refresh=Refresh(allow_deletes, delete_foreign, budget) if refresh else None,
            speaks=speaks(verbose=verbose),
            stop_after_s=stop_after,
        )
    )
