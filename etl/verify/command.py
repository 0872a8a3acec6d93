"""python -m etl.verify: proves that source and shards hold the same rows, and mends what differs."""

from __future__ import annotations

import json
import os
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from etl.core.errors import EtlError, Refused
from etl.core.model import RowidRange
from etl.runtime import files, log
from etl.runtime.console import Version, errors_as_lines, print_result, replace_closed_streams
from etl.runtime.session import private_files, session
from etl.runtime.settings import Settings, load
from etl.runtime.signals import Interrupt
from etl.shards import shard_set
from etl.sources import schema
from etl.sources.reader import Source
from etl.sqlite.adbc import sqlite_version
from etl.status import status_file
from etl.status.progress import Progress
from etl.status.progress_bar import ProgressBar
from etl.verify import source_check
from etl.verify.checker import Audit, Stopped
from etl.verify.differences import Findings
from etl.verify.repair import Mend
from etl.verify.result import Result
from etl.verify.scope import Scope

DIFFERENT = 4
"""The exit code where source and shards differ."""
_ENV_FILE = Path(".env")
_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the command has to say."""

    first: Result
    last: Result
    """The first result, or that of the verification after the repair."""
    mended: frozenset[RowidRange] | None
    scope: Scope
    seconds: float
    warnings: tuple[str, ...] = ()
    """What is no difference, but makes the comparison doubtful."""

    @property
    def exit_code(self) -> int:
        """0 or 4."""
        return 0 if self.last.findings.is_equal else DIFFERENT

    @property
    def file_check(self) -> str | None:
        """Which check was made of each file, by which SQLite; None where --since or --sample left it out."""
        name = "quick_check" if self.scope.quick else "integrity_check"
        return f"{name} of SQLite {sqlite_version()}" if self.scope.is_everything else None

    def as_json(self) -> dict[str, Any]:
        """For machines; docs/operations.md has the fields."""
        first, scope = self.first, self.scope
        return {
            "outcome": "different" if self.exit_code else "equal",
            "exit_code": self.exit_code,
            "finished_at": log.now().isoformat(timespec="milliseconds"),
            "seconds": round(self.seconds, 1),
            "source_rows": first.source_rows,
            "shard_rows": first.shard_rows,
            "shards": first.shards,
            "windows": len(first.grid.windows),
            "newer_rows": first.newer_rows,
            "scope": {
                "quick": scope.quick,
                "shards": sorted(scope.shards) if scope.shards is not None else None,
                "since": scope.since,
                "sample_percent": scope.percent,
            },
            "file_check": self.file_check,
            "warnings": list(self.warnings),
            "differences": self.last.findings.counts(),
            **self.last.findings.as_json(),
            "repair": None
            if self.mended is None
            else {"windows": len(self.mended), "found": first.findings.counts(), **first.findings.as_json()},
        }

    def lines(self) -> list[str]:
        """For people."""
        first, last = self.first, self.last
        lines = []
        if self.mended is not None:
            lines += ["found:", *(f"  {line}" for line in first.findings.lines())]
            lines += [f"mended: {len(self.mended):,} windows; they were verified again"]
        rate = first.source_rows / max(self.seconds, 1e-9)
        compared = (
            f"{first.source_rows:,} rows in {first.shards:,} shards, {len(first.grid.windows):,} windows; "
            f"{self.seconds:.1f} s ({rate:,.0f} rows/s)"
        )
        lines.append(f"{'different' if self.exit_code else 'equal'}: {compared}")
        lines += [f"  {line}" for line in last.findings.lines()]
        if self.file_check:
            lines.append(f"  files: {self.file_check}")
        if not self.scope.is_everything:
            lines.append("bounded by --since or --sample: the rest, and whole files, were not looked at")
        lines += [f"warning: {warning}" for warning in self.warnings]
        if first.newer_rows:
            lines.append(f"newer than the shards: {first.newer_rows:,} rows of the source; migrate brings them")
        kinds = last.findings.counts().keys()
        if self.mended is None and kinds - {"file"} and not self.warnings:
            lines.append("next: python -m etl.verify --repair")
        if "file" in kinds:
            lines.append("next: move away each file named so, run migrate, and verify again")
        return [
            part
            for line in lines
            for part in textwrap.wrap(
                line, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
            )
        ]


@errors_as_lines
def run(
    environ: Mapping[str, str],
    env_file: Path | None = None,
    *,
    scope: Scope = Scope(),  # noqa: B008 - a frozen value
    repair: bool = False,
    force: bool = False,
    as_json: bool = False,
) -> int:
    """One verification with the settings of `environ` over `env_file`; the exit code.

    With `force` a repair goes on although the source seems to be another one than before.
    """
    with private_files(), Interrupt() as interrupt:
        verdict = _locked(load(environ, env_file), scope, interrupt, repair=repair, force=force)
        if verdict is None:
            print_result(f"stopped by {interrupt.name}: nothing is proved; run again")
            return interrupt.exit_code
        print_result(
            json.dumps(verdict.as_json(), ensure_ascii=False, indent=1) if as_json else "\n".join(verdict.lines())
        )
        return verdict.exit_code


def _locked(settings: Settings, scope: Scope, interrupt: Interrupt, *, repair: bool, force: bool) -> Verdict | None:
    """Verifies in a session of its own; None if a signal stopped it."""
    if not settings.SHARD_DIR.is_dir():
        raise Refused(f"SHARD_DIR={settings.SHARD_DIR}: expected shards to verify, found no directory; run migrate")
    files.check(settings, files.LOCK, files.RUN, files.VERIFICATION)
    with session(settings, log_name="verify") as current:
        try:
            verdict = _verify(settings, scope, interrupt, run_id=current.run_id, repair=repair, force=force)
        except Stopped:
            current.exit_code = interrupt.exit_code
            return None
        current.exit_code = verdict.exit_code
        result = verdict.as_json()
        log.event("verified", **result)
        _leave_word(settings, result)
        return verdict


def _verify(
    settings: Settings, scope: Scope, interrupt: Interrupt, *, run_id: str, repair: bool, force: bool
) -> Verdict:
    start = time.perf_counter()
    table, rowids = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
    shards = shard_set.of(settings, table)
    warnings = source_check.check(settings.SOURCE_DB, table, shards, repair=repair, force=force)
    source = Source(settings.SOURCE_DB, table)

    def audit(scope: Scope) -> Result:
        with ProgressBar(Progress()) as bar:
            return Audit(source, rowids, shards, scope=scope, bar=bar, stop=interrupt.stop).run()

    first = audit(scope)
    seconds = time.perf_counter() - start
    if first.findings.is_equal or not repair:
        return Verdict(first, first, None, scope, seconds, warnings)
    log.event("found", **first.findings.as_json())
    mend = Mend(source, shards, run_id=run_id, stop=interrupt.stop, force=force)
    mended = mend.run(first)
    last = audit(replace(scope, since=None, percent=None, only=mended))
    _carry_over(first.findings, last.findings)
    return Verdict(first, last, mended, scope, seconds)


def _carry_over(first: Findings, last: Findings) -> None:
    """Files that were found damaged stay so: the second verification looks at mended windows only."""
    last.notes += [note for note in first.notes if note.kind == "file" and note not in last.notes]


def _leave_word(settings: Settings, said: dict[str, Any]) -> None:
    """Leaves the outcome beside the shards, for whoever asks after the last verification."""
    path = status_file.verification_path(settings.SHARD_DIR, settings.TABLE_NAME)
    try:
        files.replace(path, json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise EtlError(f"{path}: cannot be written ({error.strerror}); mend the cause and run again") from None


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="quick_check of each file instead of integrity_check.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say it to a machine.")] = False,
    shard: Annotated[list[int] | None, typer.Option(help="Only this shard; may be repeated.")] = None,
    since: Annotated[int | None, typer.Option(help="Only windows that reach to this rowid or beyond.")] = None,
    sample: Annotated[
        float | None, typer.Option(help="Only so many windows of a hundred, drawn by lot.", min=0.0, max=100.0)
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Write the windows that differ again.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="With --repair: although the source seems to be another one, or many rows differ."
        ),
    ] = False,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Prove that the shards hold the rows of the source, cell for cell, each in the shard that its key asks for.

    It takes the place of a run: while one is at work it exits 3 and names it, and no run begins meanwhile.

    Exit codes: 0 equal, 1 failed, 2 misconfigured or refused, 3 a run is at work, 4 different, 129/130/143 stopped.

    Example: SOURCE_DB=clients.db SHARD_DIR=shards python -m etl.verify --quick
    """
    replace_closed_streams()
    if force and not repair:
        raise typer.BadParameter("--force goes with --repair")
    scope = Scope(quick=quick, shards=frozenset(shard) if shard else None, since=since, percent=sample)
    raise typer.Exit(run(os.environ, _ENV_FILE, scope=scope, repair=repair, force=force, as_json=as_json))
