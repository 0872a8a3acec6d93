"""python -m etl.status: how things stand, during a run and after it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable

from etl.core.errors import EtlError, Refused
from etl.runtime import files, lock, log
from etl.runtime.console import complain, maybe_deaf, private_files, say
from etl.runtime.settings import load
from etl.runtime.version import Version
from etl.shards import checkpoint, reconciliation, shard_set
from etl.shards.checkpoint import one_by_one
from etl.sources import schema
from etl.status import snapshot
from etl.status.progress_bar import left, size, span
from etl.status.snapshot import Snapshot
from etl.status.status_file import INTERRUPTED, RUNNING, State

_MOST_SHARDS = 32
_ENV_FILE = Path(".env")


def run(environ: Mapping[str, str], env_file: Path | None = None, *, as_json: bool = False) -> int:
    """Prints how things stand by the settings of `environ` over `env_file`; the exit code."""
    try:
        found = snapshot.take(load(environ, env_file))
    except EtlError as error:
        return complain(error)
    if as_json:
        say(json.dumps(_values(found), ensure_ascii=False, indent=1))
        return 0
    say("\n".join(_lines(found)))
    if any(each.bytes for each in found.shards):
        with maybe_deaf(sys.stdout):
            Console().print(_table(found))
    return 0


def rebuild_manifest(environ: Mapping[str, str], env_file: Path | None = None) -> int:
    """Writes the manifest anew from the shards' ledgers; the exit code. It takes the lock, as a run does."""
    with private_files():
        try:
            settings = load(environ, env_file)
            if not settings.SHARD_DIR.is_dir():
                raise Refused(f"SHARD_DIR={settings.SHARD_DIR}: expected a directory with shards, found none; set it")
            files.check(settings, files.LOCK, files.RUN)
            with lock.exclusive(settings.SHARD_DIR, log.now().isoformat(timespec="seconds")):
                table, rowids = schema.look(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
                shards = shard_set.configured(settings, table)
                stock = checkpoint.take(shards.shards, rowids, (), one_by_one)
                windows = reconciliation.rebuild(shards.manifest, shards.map, shards.shards, stock, one_by_one)
        except EtlError as error:
            return complain(error)
    say(f"the manifest has {windows:,} windows, as the ledgers have them")
    return 0


def _values(found: Snapshot) -> dict[str, Any]:
    values = asdict(found) | {"rows": found.rows, "bytes": found.bytes}
    if values["run"] is not None:
        del values["run"]["shards"]  # the standing's own are the better ones
    return values


def _lines(found: Snapshot) -> Iterator[str]:
    yield f"{found.table} from {found.source} in {found.shard_dir}"
    if found.run is None:
        yield "  no run has left word of itself here"
    else:
        yield from (f"  {line}" for line in _of_run(found.run))
    present = sum(each.rows is not None for each in found.shards)
    yield f"  shards: {found.rows:,} rows in {present} of {len(found.shards)} shards, {size(found.bytes)}"
    if found.lag_rows is not None:
        bound = "up to " if found.lag_rows >= schema.COUNTED_ROWS else ""
        yield f"  lag: {bound}{found.lag_rows:,} rows of the source are newer than the shards"
    yield f"  last verification: {_of_verification(found.verification)}"
    for shard in found.unproved:
        yield f"  shard {shard} was loaded later than the others, and no full verification has been made since"
    yield from (f"  note: {note}" for note in found.notes)


def _of_run(run: State) -> Iterator[str]:
    if run.outcome == RUNNING:
        yield f"running: phase {run.phase}, {run.fraction:.1%} done, {left(run.eta_s) or 'time left not yet known'}"
        yield f"  pid {run.pid} on {run.host}, since {_moment(run.started_at)}"
        yield (
            f"  {run.windows_in_flight} windows in flight, memory {size(run.rss_bytes)}"
            + ("" if run.slowest_shard is None else f", slowest shard {run.slowest_shard}")
        )
    elif run.outcome == INTERRUPTED:
        yield f"interrupted: pid {run.pid} on {run.host} died in phase {run.phase}; run again to resume"
        yield f"  began {_moment(run.started_at)}, last heard of {_moment(run.updated_at)}"
    else:
        yield f"last run: {run.outcome}, exit code {run.exit_code}, ended {_moment(run.ended_at or run.updated_at)}"
        if run.error:
            yield from (f"  {line}" for line in run.error.splitlines())
    if run.rowids_todo:
        yield (
            f"  {run.rows:,} rows, {run.rows_per_s:,.0f} rows/s, {size(run.bytes)}; "
            f"{run.rowids_done:,} of {run.rowids_todo:,} rowids"
        )
    yield from (f"warning: {warning}" for warning in run.warnings)
    yield f"last success: {_moment(run.last_success_at) if run.last_success_at else 'never'}"


def _of_verification(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "never"
    moment = found.get("finished_at")
    said = [str(found.get("outcome", "done"))]
    said += [f"{count:,} {kind}" for kind, count in found.get("differences", {}).items()]
    said += (
        ["bounded"] if any(found.get("scope", {}).get(name) for name in ("shards", "since", "sample_percent")) else []
    )
    return ", ".join(said) + (f", {_moment(moment)}" if isinstance(moment, str) else "")


def _moment(moment: str) -> str:
    """A time, and how long ago that is."""
    try:
        then = datetime.fromisoformat(moment)
        ago = (datetime.now(UTC) - then).total_seconds()
    except (ValueError, TypeError):
        return moment
    return f"{then:%Y-%m-%d %H:%M:%S} UTC ({span(max(0.0, ago))} ago)"


def _table(found: Snapshot) -> RichTable:
    shards = found.shards
    title = "shards"
    if len(shards) > _MOST_SHARDS:
        ordered = sorted(shards, key=lambda each: each.rows or 0)
        shards = [*ordered[: _MOST_SHARDS // 4], *ordered[-_MOST_SHARDS // 4 :]]
        title = f"shards: the smallest and the largest of {len(ordered)}; --json has all"
    table = RichTable(title=title)
    for name in ("shard", "rows", "size", "share of rows"):
        table.add_column(name, justify="right")
    table.add_column("known from")
    for each in shards:
        rows = "no file" if not each.bytes else "unknown" if each.rows is None else f"{each.rows:,}"
        share = "" if each.rows is None else f"{each.rows / max(1, found.rows):.1%}"
        table.add_row(str(each.shard), rows, size(each.bytes), share, each.known_from)
    return table


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild-manifest", help="Write the manifest anew from the shards' ledgers.")
    ] = False,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Tell how things stand: the run, the shards, the lag behind the source, the last verification.

    Works during a run and after it, and where nothing has run yet; it locks nothing and writes nothing.

    Settings come from the environment, over the file .env here, over their defaults, as for etl.migrate.

    Example: SHARD_DIR=shards python -m etl.status --json
    """
    if rebuild:
        raise typer.Exit(rebuild_manifest(os.environ, _ENV_FILE))
    raise typer.Exit(run(os.environ, _ENV_FILE, as_json=as_json))
