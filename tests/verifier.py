"""The verifying command, in this process or in one of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import note

from etl.verify.command import run
from etl.verify.scope import Scope
from tests.damage import Environ
from tests.tables import Table, build
from tests.workplace import REPOSITORY, Outcome, Workplace, migrate

EVERYTHING = Scope()


@contextmanager
def migrated_table(table: Table, *, num_shards: int, batch_size: int) -> Iterator[tuple[Workplace, dict[str, str]]]:
    """A workplace with the table, already in shards, and its settings."""
    with tempfile.TemporaryDirectory() as directory:
        place = Workplace(Path(directory))
        build(table, place.source)
        note(table.ddl)
        environ = place.environ(
            TABLE_NAME=table.name, SHARD_KEY=table.key, NUM_SHARDS=num_shards, BATCH_SIZE=batch_size
        )
        assert migrate(environ) == 0
        yield place, environ


class Verifier:
    """Runs the command and reads what it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(
        self,
        environ: Environ,
        scope: Scope = EVERYTHING,
        *,
        repair: bool = False,
        force: bool = False,
        delete_foreign: bool = False,
    ) -> dict[str, Any]:
        self._capsys.readouterr()
        code = run(environ, scope=scope, repair=repair, force=force, delete_foreign=delete_foreign, as_json=True)
        out, err = self._capsys.readouterr()
        assert out, err
        assert "Traceback" not in out + err
        said: dict[str, Any] = json.loads(out)
        assert said["exit_code"] == code
        return said


def command(place: Workplace, environ: Environ, *options: str) -> Outcome:
    """The command in a process of its own, on a terminal of 80 columns."""
    ended = subprocess.run(
        [sys.executable, "-m", "etl.verify", "-v", *options],
        cwd=place.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80", **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(ended.returncode, ended.stdout, ended.stderr)
