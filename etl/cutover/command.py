"""python -m etl.cutover: seals the shards, or tells what is against it; --undo opens them again."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from etl.core.errors import EtlError, Refused
from etl.core.model import Seal
from etl.cutover import readiness
from etl.cutover.readiness import Readiness
from etl.runtime import files, log
from etl.runtime.console import Version, errors_as_lines, print_errors, print_json, print_result, print_warning
from etl.runtime.options import Application, Given, with_settings
from etl.runtime.session import Session, private_files, session
from etl.runtime.settings import Settings, load
from etl.runtime.signals import Interrupt
from etl.shards import found_set, seal, shard_set
from etl.sources import schema
from etl.status import metrics, status_file, verifications
from etl.status.units import counted
from etl.verify.halt import Halt
from etl.verify.scope import Scope
from etl.verify.verification import Verification


@errors_as_lines
def run(given: Given, *, id_block: int | None = None, as_json: bool = False) -> int:
    """Seals the shards of these settings, if nothing is against it; the exit code.

    Each shard gets a range of `id_block` ids of its own; 0: none; by default `seal.ID_BLOCK`.
    """
    settings = _settings(given)
    with private_files(), Interrupt() as interrupt, session(settings, log_name="cutover") as current:
        ready = interrupt.call(lambda: _seal(settings, current, id_block))
        current.exit_code = _show(settings, ready, as_json=as_json)
        if ready.is_sealed:
            _publish(settings, seal.sealed_at(ready.seals))
        return current.exit_code


@errors_as_lines
def check(given: Given, *, id_block: int | None = None, as_json: bool = False) -> int:
    """Tells whether the shards may be sealed, and writes nothing; the exit code of a cut-over."""
    settings = _settings(given)
    return _show(settings, readiness.assess(settings, _block(id_block)), as_json=as_json)


@errors_as_lines
def undo(given: Given, *, force: bool = False) -> int:
    """Opens the shards for runs again, with `force` also where rows differ from the source; the exit code."""
    settings = _settings(given)
    with private_files(), Interrupt() as interrupt, session(settings, log_name="cutover") as current:
        text = interrupt.call(lambda: _unseal(settings, current, interrupt, force=force))
        print_result(text)
        return current.exit_code


def _settings(given: Given) -> Settings:
    settings = load(given.environ, given.env_file)
    files.check(settings, *files.OF_A_RUN)
    if not settings.SHARD_DIR.is_dir():
        raise Refused(f"SHARD_DIR={settings.SHARD_DIR}: expected shards, found no directory; run migrate")
    return settings


def _block(id_block: int | None) -> int:
    return seal.ID_BLOCK if id_block is None else id_block


def _seal(settings: Settings, current: Session, id_block: int | None) -> Readiness:
    ready = readiness.assess(settings, _block(id_block))
    if ready.seals and id_block is not None:
        ready.warnings.append("--id-block has no effect: the first shard that was sealed fixed the ranges")
    if ready.refusals or ready.is_sealed or ready.table is None:
        return ready
    shards = shard_set.shards(settings, ready.table)
    moment = seal.sealed_at(ready.seals) or current.started.isoformat(timespec="seconds")
    seals = [Seal(moment, *ids) for ids in ready.planned]
    for slot, (shard, planned) in enumerate(zip(shards, seals, strict=True)):
        if slot not in ready.seals:
            shard.seal(planned, sets_sequence=ready.is_autoincrement)
            log.event("sealed", shard=settings.shard_map.shards[slot])
    ready.seals, ready.is_sealed = dict(enumerate(seals)), True
    return ready


def _unseal(settings: Settings, current: Session, interrupt: Interrupt, *, force: bool) -> str:
    path = settings.SOURCE_DB
    if force and not path.exists():
        path = found_set.find(settings.SHARD_DIR, settings.TABLE_NAME).path(settings.shard_map.shards[0])
    table, _ = schema.inspect(path, settings.TABLE_NAME, settings.SHARD_KEY)
    shards = shard_set.shards(settings, table)
    found = [shard.find(()) for shard in shards]
    if not seal.of(found):
        _publish(settings, None)  # a kill may have come before
        return "nothing to undo: no shard is sealed"
    if not force:
        outcome = Verification(
            settings, Scope(files=False), None, run_id=current.run_id, halt=Halt(interrupt.stop), is_loaded=True
        ).run()
        if outcome.is_stopped:
            current.exit_code = interrupt.exit_code
            return f"stopped by {interrupt.name}: the shards stay sealed"
        differences = outcome.last.differences
        if not differences.is_equal or outcome.first.newer_rows:
            rows = differences.count + outcome.first.newer_rows
            raise Refused(
                f"SHARD_DIR={settings.SHARD_DIR}: expected shards equal to the source, found {counted(rows, 'row')} "
                "with differences; applications may have written them, and after --undo a refresh replaces the rows "
                "that they changed or deleted; --undo --force opens the shards all the same"
            )
    if force:
        _forget_proof(settings, current)
    for slot in seal.of(found):
        shards[slot].unseal()
        log.event("unsealed", shard=settings.shard_map.shards[slot])
    _publish(settings, None)
    return f"open again: {counted(len(seal.of(found)), 'shard')} of {table.name}; runs may write to them"


def _forget_proof(settings: Settings, current: Session) -> None:
    """The shards may have rows of applications now, so what was proved before does not count."""
    path = files.CHECKS.path(settings.SHARD_DIR, settings.TABLE_NAME)
    try:
        verifications.opened_again(
            settings.SHARD_DIR, settings.TABLE_NAME, current.started.isoformat(timespec="milliseconds")
        )
        path.unlink(missing_ok=True)
    except OSError as error:
        raise EtlError(f"{path}: cannot be written ({error.strerror}); run again") from None


def _publish(settings: Settings, sealed_at: str | None) -> None:
    """Writes the seal into the last run's status, and into the metrics."""
    path = status_file.path_of(settings.SHARD_DIR, settings.TABLE_NAME)
    status = status_file.read(path)
    if status is None:
        return
    status = replace(status, sealed_at=sealed_at, updated_at=log.now().isoformat())
    try:
        status_file.write(path, status)
        if settings.METRICS_FILE is not None:
            metrics.write(settings.METRICS_FILE, status)
    except OSError as error:
        raise EtlError(f"{error.filename or path}: cannot be written ({error.strerror}); run again") from None


def _show(settings: Settings, ready: Readiness, *, as_json: bool) -> int:
    """Prints what was found or done; the exit code."""
    if as_json:
        print_json(_values(settings, ready))
    else:
        for line in _lines(settings, ready):
            print_result(line)
        for warning in ready.warnings:
            print_warning(warning)
    print_errors(*ready.refusals)
    return ready.exit_code


def _values(settings: Settings, ready: Readiness) -> dict[str, Any]:
    numbers = settings.shard_map.shards
    return {
        "table": settings.TABLE_NAME,
        "shard_dir": str(settings.SHARD_DIR),
        "ready": not ready.refusals,
        "sealed": ready.is_sealed,
        "shards": [{"shard": numbers[slot], **asdict(each)} for slot, each in sorted(ready.seals.items())],
        "refusals": ready.refusals,
        "warnings": ready.warnings,
    }


def _lines(settings: Settings, ready: Readiness) -> list[str]:
    shards = f"{counted(len(settings.shard_map.shards), 'shard')} of {settings.TABLE_NAME}"
    if not ready.is_sealed:
        return [] if ready.refusals else [f"ready: {shards} may be sealed; run cutover without --check"]
    lines = [f"sealed: {shards}, since {seal.since(ready.seals[0].sealed_at)}; runs, refreshes and repairs refuse"]
    first = ready.seals[0].first_id
    if first is not None and ready.seals[0].last_id is not None:
        block = ready.seals[0].last_id - first + 1
        lines.append(f"ids: each shard has a range of {block:,} of its own, from {first:,} on")
    lines += [
        "next: let applications open shards with etl.open_shard(key, writable=True)",
        "next: remove runs and refreshes from cron",
        "next: back up the shards; keep the source until the backup is verified",
    ]
    return lines


app = Application()


@app.command()
@with_settings
def main(
    *,
    given: Given,
    check_only: Annotated[
        bool, typer.Option("--check", help="Only tell whether the shards may be sealed: exit code 0 or 2.")
    ] = False,
    with_undo: Annotated[
        bool, typer.Option("--undo", help="Open the shards for runs again, unless rows differ from the source.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="With --undo: also where rows differ.")] = False,
    id_block: Annotated[
        int | None,
        typer.Option(
            "--id-block",
            min=0,
            metavar="N",
            help="Give each shard a range of N ids for new rows, above the greatest id of all; 0: no ranges. "
            "Default: 2^40.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Seal the shards: from now on they are the applications', and runs, refreshes and repairs refuse.

    Refuses, with every reason, unless all rows are loaded and proved equal and the source has not changed since.

    Exit codes: 0 sealed or ready, 1 failed, 2 refused, 3 a run is at work.

    Example: SHARD_DIR=shards python -m etl.cutover --check
    """
    if with_undo and (check_only or as_json or id_block is not None):
        raise typer.BadParameter("--undo cannot be combined with --check, --json or --id-block")
    if force and not with_undo:
        raise typer.BadParameter("--force needs --undo")
    if with_undo:
        raise typer.Exit(undo(given, force=force))
    if check_only:
        raise typer.Exit(check(given, id_block=id_block, as_json=as_json))
    raise typer.Exit(run(given, id_block=id_block, as_json=as_json))
