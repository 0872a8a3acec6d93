"""ON_SUCCESS and ON_FAILURE: a command of the operator's that gets the outcome as JSON on its standard input."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from etl.core.errors import AlreadyRunning, EtlError
from etl.runtime import log
from etl.runtime.console import as_json, print_warning
from etl.runtime.settings import Settings
from etl.runtime.version import VERSION

TIMEOUT_S = 60.0


@dataclass
class Report:
    """What a hook gets. The command fills in what it knows."""

    table: str
    started_at: str
    version: str = VERSION
    exit_code: int = 0
    message: str = ""
    complete: bool = True
    """Whether nothing is left to do."""
    rows: int = 0
    seconds: float = 0.0


@contextmanager
def reported(settings: Settings) -> Iterator[Report]:
    """Calls a hook when the block ends. Neither its failure nor its absence changes the command's outcome.

    Where another command is at work (exit code 3) none is called: that one calls its own.
    """
    started = log.now()
    report = Report(settings.TABLE_NAME, started.isoformat())
    try:
        yield report
    except AlreadyRunning:
        raise
    except EtlError as error:
        report.exit_code, report.message, report.complete = error.exit_code, str(error), False
        report.seconds = (log.now() - started).total_seconds()
        _call(settings, report)
        raise
    _call(settings, report)


def _call(settings: Settings, report: Report) -> None:
    name = "ON_FAILURE" if report.exit_code else "ON_SUCCESS"
    command = settings.ON_FAILURE if report.exit_code else settings.ON_SUCCESS
    if command and (fault := _run(shlex.split(command), as_json(asdict(report)))):
        print_warning(f"{name}: {fault}; the exit code of the command is {report.exit_code} all the same")


def _run(command: list[str], text: str) -> str:
    """Runs the command; what went wrong, or nothing."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - the operator's own command, without a shell
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a command line"
        return f"the hook cannot be started ({reason})"
    try:
        process.communicate(text.encode("utf-8", "surrogateescape"), timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
        process.communicate()
        return f"the hook did not end within {TIMEOUT_S:.0f} s and was killed"
    return f"the hook ended with exit code {process.returncode}" if process.returncode else ""
