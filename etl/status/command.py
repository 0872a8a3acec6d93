"""python -m etl.status: the state of the run and the shards, during a run and after it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable

from etl.core.errors import EtlError, Refused
from etl.runtime import files, lock, log
from etl.runtime.console import Version, errors_as_lines, once, print_json, print_result, tolerate_closed
from etl.runtime.options import Application, Given, with_settings
from etl.runtime.session import private_files
from etl.runtime.settings import load
from etl.shards import checkpoint, reconciliation, shard_set
from etl.shards.checkpoint import one_by_one
from etl.sources import schema
from etl.status import snapshot, summary
from etl.status.snapshot import Snapshot
from etl.status.status_file import INTERRUPTED, RUNNING, RunStatus
from etl.status.units import counted, left, percent, read_and_written, size, span

_MONITORING = resources.files("etl.status") / "monitoring"


@errors_as_lines
def run(environ: Mapping[str, str], env_file: Path | None = None, *, as_json: bool = False) -> int:
    """Prints the state for the settings of `environ` over `env_file`; the exit code."""
    found = snapshot.take(load(environ, env_file))
    if as_json:
        print_json(_values(found))
        return 0
    print_result("\n".join(_lines(found)))
    if any(each.bytes for each in found.shards):
        with tolerate_closed(sys.stdout):
            Console().print(_table(found))
    return 0


@errors_as_lines
def rebuild_manifest(environ: Mapping[str, str], env_file: Path | None = None) -> int:
    """Writes the manifest again from the shards' ledgers; the exit code. It takes the lock, as a run does."""
    with private_files():
        settings = load(environ, env_file)
        if not settings.SHARD_DIR.is_dir():
            raise Refused(f"SHARD_DIR={settings.SHARD_DIR}: expected a directory with shards, found none; set it")
        files.check(settings, *files.OF_A_REBUILD)
        started = log.now().isoformat(timespec="seconds")
        with lock.exclusive(settings.SHARD_DIR, started), lock.shards(settings.SHARD_DIR):
            table, rowids = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
            shards = shard_set.configured(settings, table)
            found = checkpoint.take(shards.shards, rowids, (), one_by_one)
            windows = reconciliation.rebuild(shards.manifest, shards.map, shards.shards, found, one_by_one)
    print_result(f"manifest rebuilt from the ledgers: {counted(windows, 'window')}")
    return 0


@errors_as_lines
def write_monitoring(directory: Path) -> int:
    """Writes the alert rules and the dashboard into a directory, and not over others; the exit code."""
    found = {directory / each.name: each.read_bytes() for each in _MONITORING.iterdir()}
    try:
        for path, content in found.items():
            if path.exists() and path.read_bytes() != content:
                raise Refused(f"{path}: expected no file, found one that differs; choose another directory")
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in found.items():
            files.replace(path, content, mode=0o644)  # Prometheus and Grafana are other users
    except OSError as error:
        raise EtlError(f"{directory}: cannot be written ({error.strerror}); choose another directory") from None
    print_result("\n".join(str(path) for path in sorted(found)))
    return 0


def _values(found: Snapshot) -> dict[str, Any]:
    values = asdict(found) | {"rows": found.rows, "bytes": found.bytes}
    if values["run"] is not None:
        del values["run"]["shards"]  # the snapshot's own are newer
    return values


def _lines(found: Snapshot) -> Iterator[str]:
    yield f"{found.table} from {found.source} in {found.shard_dir}"
    if found.run is None:
        yield "  no run is recorded in SHARD_DIR"
    else:
        yield from (f"  {line}" for line in _run_lines(found.run))
    present = sum(each.rows is not None for each in found.shards)
    rows = counted(found.rows, "row") + (" when they were sealed" if found.sealed_at else "")
    yield f"  shards: {rows} in {present} of {len(found.shards)} shards, {size(found.bytes)}"
    if found.lag_rows and found.sealed_at:
        newer = counted(found.lag_rows, "row")
        yield f"  {newer} of the source came after the seal: a program still writes to the source"
    elif found.lag_rows is not None:
        bound = "at most " if found.lag_rows >= schema.COUNTED_ROWS else ""
        yield f"  lag: {bound}{counted(found.lag_rows, 'row')} of the source not yet in the shards"
    for each in found.shards:
        if each.lost_rows and not (each.bytes and each.rows is None):  # a note says why it cannot be read
            way_out = "restore its file from a backup" if found.sealed_at else "the next run loads them again"
            yield f"  shard {each.shard} has lost {counted(each.lost_rows, 'row')}; {way_out}"
    yield f"  last verification: {_verification_text(found.verification)}"
    proof = found.last_full_proof
    yield "  last full proof: " + (f"{counted(proof.rows, 'row')}, {_moment(proof.finished_at)}" if proof else "never")
    if found.oldest_check and not found.sealed_at:
        oldest = datetime.fromisoformat(found.oldest_check)
        yield (
            f"  proved: {found.proved_percent} % of rowids compared and equal within "
            f"{span((datetime.now(UTC) - oldest).total_seconds())}, oldest {oldest:%Y-%m-%d %H:%M:%S} UTC"
        )
    if found.sealed_at:
        yield f"  sealed: {_moment(found.sealed_at)}; applications write to the shards, and runs refuse"
    for shard in found.unproved:
        yield f"  shard {shard} was loaded later than the others and not fully verified since"
    yield from (f"  note: {note}" for note in once(found.notes))


def _run_lines(run: RunStatus) -> Iterator[str]:
    if run.outcome == RUNNING:
        yield f"running: phase {run.phase}, {run.fraction:.1%} done, {left(run.eta_s) or 'time left unknown'}"
        yield f"  pid {run.pid} on {run.host}, since {_moment(run.started_at)}"
        slowest = "" if run.slowest_shard is None else f", slowest shard {run.slowest_shard}"
        yield f"  {counted(run.windows_in_flight, 'window')} in flight, memory {size(run.rss_bytes)}{slowest}"
    elif run.outcome == INTERRUPTED:
        yield f"interrupted: pid {run.pid} on {run.host} died in phase {run.phase}; run again to resume"
        yield f"  started {_moment(run.started_at)}, last update {_moment(run.updated_at)}"
    else:
        yield f"last run: {run.outcome}, exit code {run.exit_code}, ended {_moment(run.ended_at or run.updated_at)}"
        if run.error:
            yield from (f"  {line}" for line in run.error.splitlines())
    if run.rowids_todo:
        yield (f"  {read_and_written(run.rows_read, run.rows, 'row')}, {run.rows_per_s:,.0f} rows/s, {size(run.bytes)}")
        read = f", {run.rowids_read:,} read" if run.rowids_read != run.rowids_done else ""
        yield f"  {run.rowids_done:,} of {counted(run.rowids_todo, 'rowid')}{read}"
    if run.rows_updated:
        yield f"  {counted(run.rows_updated, 'old row')} updated"
    yield from (f"warning: {warning}" for warning in run.warnings)
    yield f"last success: {_moment(run.last_success_at) if run.last_success_at else 'never'}"


def _verification_text(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "never"
    parts = [str(found.get("outcome", "done"))]
    parts += [f"{count:,} {kind}" for kind, count in found.get("differences", {}).items()]
    if found.get("full") is False:
        parts.append("partial")
    moment = found.get("finished_at")
    if isinstance(moment, str):
        parts.append(_moment(moment))
    return ", ".join(parts)


def _moment(moment: str) -> str:
    try:
        then = datetime.fromisoformat(moment)
        ago = (datetime.now(UTC) - then).total_seconds()
    except (ValueError, TypeError):
        return moment
    return f"{then:%Y-%m-%d %H:%M:%S} UTC ({span(max(0.0, ago))} ago)"


def _table(found: Snapshot) -> RichTable:
    shards, title = summary.extremes(found.shards, lambda each: each.rows or 0, title="shards", hint="; --json has all")
    table = RichTable(title=title)
    for name in ("shard", "rows", "size", "share of rows"):
        table.add_column(name, justify="right")
    table.add_column("counted by")
    for each in shards:
        rows = "no file" if not each.bytes else "unknown" if each.rows is None else f"{each.rows:,}"
        share = "" if each.rows is None else percent(each.rows / max(1, found.rows))
        table.add_row(str(each.shard), rows, size(each.bytes), share, each.known_from)
    return table


app = Application()


@app.command()
@with_settings
def main(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild-manifest", help="Write the manifest again from the shards' ledgers.")
    ] = False,
    given: Given,
    monitoring: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write Prometheus' alert rules and Grafana's dashboard into DIR."),
    ] = None,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Show the last run, the shards, their lag behind the source, and the last verification.

    Works during a run, after it, and before the first one. It takes no lock and writes nothing, except with
    --rebuild-manifest. --monitoring writes into DIR only and needs no settings.

    Example: SHARD_DIR=shards python -m etl.status --json
    """
    if monitoring is not None:
        raise typer.Exit(write_monitoring(monitoring))
    if rebuild:
        raise typer.Exit(rebuild_manifest(given.environ, given.env_file))
    raise typer.Exit(run(given.environ, given.env_file, as_json=as_json))
