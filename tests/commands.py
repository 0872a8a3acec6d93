"""A command in a process of its own, as a person or cron starts it, and a check that it changes nothing."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.workplace import PATIENCE_SECONDS, REPOSITORY, Outcome, Workplace, snapshot


def ran(module: str, environ: Mapping[str, str], *arguments: str) -> Outcome:
    """`python -m module …` on 80 columns, where there is no .env."""
    answer = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80", **environ},
        cwd=Path(environ["LOG_DIR"]).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert "Traceback" not in answer.stderr
    return Outcome(answer.returncode, answer.stdout, answer.stderr)


def everything(place: Workplace) -> tuple[object, object, object]:
    """All names, bytes and times of the files and directories."""
    paths = sorted(place.root.rglob("*"))
    return paths, snapshot(paths), [path.stat().st_mtime_ns for path in (place.root, *paths)]
