"""python -m etl.migrate: one run, from settings to exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as RichTable

from etl.core.errors import EtlError, Refused
from etl.migrate import demo
from etl.migrate.plan import plan, render
from etl.migrate.run import Migration, Outcome
from etl.runtime import files, lock, log
from etl.runtime.console import (
    as_known,
    print_error,
    print_result,
    private_files,
    replace_closed_streams,
    temporary_files_in,
    tolerate_closed,
)
from etl.runtime.settings import Settings, load
from etl.runtime.signals import Interrupt
from etl.runtime.version import Version
from etl.status import summary
from etl.status.heartbeat import Heartbeat
from etl.status.progress import Progress

_ENV_FILE = Path(".env")


def run(environ: Mapping[str, str], env_file: Path | None = None, *, force: bool = False) -> int:
    """One migration with the settings of `environ` over `env_file`; the exit code. Errors become one line each.

    With `force` it goes on although the disk seems too small, or the source another one than before.
    """
    with private_files(), Interrupt() as interrupt:
        try:
            tally = Progress()
            outcome = _locked(load(environ, env_file), interrupt, tally, force=force)
        except EtlError as error:
            return print_error(error)
        with tolerate_closed(sys.stderr):
            summary.show(tally)
        _say(outcome, interrupt)
        return _exit_code(outcome, interrupt)


def show_plan(environ: Mapping[str, str], env_file: Path | None = None, *, as_json: bool = False) -> int:
    """Prints what a run with these settings would do, and does nothing; the exit code that the run would begin with."""
    try:
        planned = plan.make(load(environ, env_file))
    except EtlError as error:
        return print_error(error)
    if as_json:
        print_result(json.dumps(asdict(planned), ensure_ascii=False, indent=1))
    else:
        with tolerate_closed(sys.stdout):
            render.show(planned)
    with tolerate_closed(sys.stderr):
        for refusal in planned.refusals:
            print(f"error: {refusal}", file=sys.stderr)
    return planned.exit_code


def run_demo(rows: int, directory: Path = Path("demo")) -> int:
    """Invents a source of that many rows in `directory` and migrates it; the exit code. Settings are the defaults."""
    environ = {
        "SOURCE_DB": str(directory / "clients.db"),
        "SHARD_DIR": str(directory / "shards"),
        "LOG_DIR": str(directory),
    }
    with private_files(), Interrupt() as interrupt:
        try:
            settings = load(environ)
            files.check(settings, *files.OF_A_RUN)
            demo.make_source(settings.SOURCE_DB, rows)
            outcome = _locked(settings, interrupt, Progress())
        except EtlError as error:
            return print_error(error)
        with tolerate_closed(sys.stdout):
            Console().print(_table(outcome))
        _say(outcome, interrupt)
        return _exit_code(outcome, interrupt)


def _exit_code(outcome: Outcome, interrupt: Interrupt) -> int:
    """A signal that came when nothing was left to stop has stopped nothing."""
    return 0 if outcome.is_complete else interrupt.exit_code


def _locked(settings: Settings, interrupt: Interrupt, tally: Progress, *, force: bool = False) -> Outcome:
    files.check(settings, *files.OF_A_RUN)
    started = log.now()
    try:
        settings.SHARD_DIR.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"SHARD_DIR={settings.SHARD_DIR}: cannot be made ({error.strerror}); choose another") from None
    with (
        temporary_files_in(settings.SHARD_DIR),
        lock.exclusive(settings.SHARD_DIR, started.isoformat(timespec="seconds")),
        log.log(settings.LOG_DIR, started) as log_path,
    ):
        run_id = f"{started:%Y%m%dT%H%M%S.%fZ}-{os.getpid()}"
        pulse = Heartbeat(settings, tally, run_id=run_id, started=started)
        try:
            log.event("start", run_id=run_id, log=str(log_path), settings=settings.model_dump(mode="json"))
            pulse.start()
            outcome = Migration(settings, run_id=run_id, stop=interrupt.stop, tally=tally, force=force).run()
        except BaseException as error:  # noqa: BLE001 - a panic in Rust is no Exception; it is raised again as one line
            known = as_known(error, log_path)
            pulse.end("refused" if isinstance(known, Refused) else "failed", known.exit_code, error=str(known))
            log.failure(error)
            log.event("end", exit_code=known.exit_code)
            raise known from None
        exit_code = _exit_code(outcome, interrupt)
        done = "nothing new" if outcome.nothing_new else "done"
        pulse.end(done if outcome.is_complete else "stopped", exit_code)
        log.event("end", exit_code=exit_code, rows=outcome.rows)
        return outcome


def _say(outcome: Outcome, interrupt: Interrupt) -> None:
    seconds = outcome.load_s + outcome.finish_s
    done = f"{outcome.rows:,} rows in {seconds:.1f} s ({outcome.rows / max(seconds, 1e-9):,.0f} rows/s)"
    if outcome.nothing_new:
        text = f"nothing new: {_no_rowid_above(outcome.last_rowid)}"
    elif outcome.is_complete:
        text = f"done: {done}"
    else:
        text = f"stopped by {interrupt.name}: {done}; run again to resume"
    print_result(text)
    for shard in outcome.unproved:
        print_result(
            f"shard {shard} was loaded later than the others; run python -m etl.verify to prove that they fit together"
        )


def _no_rowid_above(last_rowid: int | None) -> str:
    return "the source has no rows" if last_rowid is None else f"the source has no rowid above {last_rowid:,}"


def _table(outcome: Outcome) -> RichTable:
    table = RichTable(title="shards")
    for name in ("shard", "rows", "MB"):
        table.add_column(name, justify="right")
    for total in outcome.totals:
        table.add_row(str(total.shard), f"{total.rows:,}", f"{total.bytes / 1e6:,.1f}")
    return table


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rows: Annotated[
        int | None, typer.Argument(help=f"With --demo: how many rows to invent, {demo.ROWS} if not given.")
    ] = None,
    *,
    with_demo: Annotated[
        bool, typer.Option("--demo", help="Invent a source in demo/ and migrate it; needs no settings.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Go on although the disk seems too small, or the source another one than before."),
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what a run would do, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --plan: as one JSON object.")] = False,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Move one table of an SQLite file into shard files, or bring the shards up to date.

    Settings come from the environment, over the file .env here, over their defaults; the README lists them.

    Exit codes: 0 done, 1 failed, 2 misconfigured or refused, 3 already running, 129/130/143 stopped by a signal.

    Example: SOURCE_DB=clients.db SHARD_DIR=shards python -m etl.migrate --plan
    """
    replace_closed_streams()
    if plan and (with_demo or rows is not None):
        raise typer.BadParameter("--plan goes by the settings; --demo has its own")
    if as_json and not plan:
        raise typer.BadParameter("--json goes with --plan")
    if plan:
        raise typer.Exit(show_plan(os.environ, _ENV_FILE, as_json=as_json))
    if rows is not None and not with_demo:
        raise typer.BadParameter("a number of rows goes with --demo")
    if with_demo:
        raise typer.Exit(run_demo(demo.ROWS if rows is None else rows))
    raise typer.Exit(run(os.environ, _ENV_FILE, force=force))
