"""ON_SUCCESS and ON_FAILURE: called once, with the outcome; whatever they do, the exit code stays."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from etl.migrate.command import run
from etl.runtime import hooks, lock
from tests.workplace import Workplace, migrate

ROWS = 300


def keeps(path: Path) -> str:
    """A command that appends its standard input to the file."""
    code = f"import sys; open({str(path)!r}, 'a').write(sys.stdin.read() + chr(10))"
    return shlex.join([sys.executable, "-c", code])


@pytest.fixture
def environ(workplace: Workplace) -> dict[str, str]:
    workplace.populate(ROWS)
    return workplace.environ(
        ON_SUCCESS=keeps(workplace.root / "successes"), ON_FAILURE=keeps(workplace.root / "failure s")
    )


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_success_is_told_with_its_rows(workplace: Workplace, environ: dict[str, str]) -> None:
    assert migrate(environ) == 0
    assert migrate(environ) == 0
    first, second = told(workplace.root / "successes")
    assert list(first) == [
        "schema_version",
        "table",
        "started_at",
        "version",
        "exit_code",
        "message",
        "complete",
        "rows",
        "seconds",
    ]
    assert (first["table"], first["exit_code"], first["rows"], first["complete"]) == ("clients", 0, ROWS, True)
    assert first["message"].startswith(f"done: {ROWS} rows in")
    assert (second["rows"], second["message"]) == (0, f"nothing new: the source has no rowid above {ROWS}")
    assert told(workplace.root / "failure s") == []


def test_a_failure_is_told_with_its_line(workplace: Workplace, environ: dict[str, str]) -> None:
    assert migrate(environ | {"TABLE_NAME": "other"}) == 2
    (failure,) = told(workplace.root / "failure s")
    assert (failure["exit_code"], failure["complete"]) == (2, False)
    assert "other" in failure["message"]
    assert told(workplace.root / "successes") == []


def test_a_run_that_finds_another_at_work_calls_no_hook(workplace: Workplace, environ: dict[str, str]) -> None:
    workplace.shards.mkdir()
    with lock.exclusive(workplace.shards, "2020-01-01T00:00:00+00:00"):
        assert migrate(environ) == 3
    assert not list(workplace.root.glob("success*"))
    assert not list(workplace.root.glob("fail*"))


HOOKS = {
    "no-such-command": "cannot be started (No such file or directory)",
    "/": "cannot be started (Permission denied)",
    "false": "ended with exit code 1",
    "sh -c 'exit 7'": "ended with exit code 7",
    "sh -c 'kill -9 $$'": "ended with exit code -9",
    "sleep 3600": "did not end within 0 s and was killed",
    "sh -c 'sleep 3600 & wait'": "did not end within 0 s and was killed",
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("fails", [False, True])
def test_a_hook_that_fails_is_a_warning(
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hook: str,
    *,
    fails: bool,
) -> None:
    if "3600" in hook:
        monkeypatch.setattr(hooks, "TIMEOUT_S", 0.3)
    environ |= {"ON_SUCCESS": hook, "ON_FAILURE": hook, "TABLE_NAME": "other" if fails else "clients"}
    code = 2 if fails else 0
    assert run(environ, speaks=False) == code
    name = "ON_FAILURE" if fails else "ON_SUCCESS"
    out, err = capsys.readouterr()
    assert out == ""
    assert f"warning: {name}: the hook {HOOKS[hook]}; the exit code of the command is {code} all the same\n" in err


def test_a_hook_runs_without_a_shell_and_a_large_outcome_does_not_hang_it(
    environ: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    environ["ON_SUCCESS"] = "echo '$HOME' *; true"  # echo reads nothing
    assert migrate(environ) == 0
    assert "$HOME *; true\n" in capfd.readouterr().out
