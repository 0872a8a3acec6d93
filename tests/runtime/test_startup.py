"""Ctrl-C while a command still loads its modules: exit code 130 and no traceback, in every command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.workplace import PATIENCE_SECONDS, REPOSITORY, Outcome, finished

# Run by Python before the command: says when the command's own code begins, and strikes at an import after that.
WATCHER = """
import os, signal, sys
left = int(os.environ["STRIKE_AT_IMPORT"])
begun = False
def watch(event, arguments):
    global begun, left
    if event == "import":
        if begun:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGINT)
        elif arguments[0] == "etl.core.routing":
            begun = True
            print("begun", flush=True)
sys.addaudithook(watch)
"""
SCRIPT = "import sys\nfrom etl.__main__ import app\nsys.exit(app())\n"  # as pip writes it for [project.scripts]
COMMANDS = [
    *(["-m", "etl"], ["-m", "etl", "migrate"], ["-m", "etl.migrate"], ["-m", "etl.migrate", "--plan"]),
    *(["-m", "etl.verify"], ["-m", "etl.status"], ["-m", "etl.report"], ["-m", "etl.route", "key"]),
    ["shard-migrate", "status"],
]


def start(
    place: Path, command: Sequence[str], *, strike_at_import: int, python: str = sys.executable
) -> subprocess.Popen[str]:
    (place / "sitecustomize.py").write_text(WATCHER)
    (place / "shard-migrate").write_text(SCRIPT)
    return subprocess.Popen(
        [python, *command],
        cwd=place,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(place), str(REPOSITORY)]),
            "STRIKE_AT_IMPORT": str(strike_at_import),
            "SOURCE_DB": "none.db",
            "SHARD_DIR": "none",
            "LOG_DIR": ".",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("imports", [1, 100])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_ctrl_c_during_the_imports_is_exit_code_130_and_no_traceback(
    tmp_path: Path, command: Sequence[str], imports: int
) -> None:
    with start(tmp_path, command, strike_at_import=imports) as process:
        assert finished(process) == Outcome(130, "begun\n", "")


def test_ctrl_c_at_any_moment_leaves_no_traceback(tmp_path: Path) -> None:
    codes = []
    for after_s in (0.0, 0.02, 0.06, 0.12, 0.25, 0.4, 0.6, 0.9):
        with start(tmp_path, ["-m", "etl.migrate"], strike_at_import=0) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            time.sleep(after_s)
            process.send_signal(signal.SIGINT)
            ended = finished(process)
        assert "Traceback" not in ended.err
        assert "KeyboardInterrupt" not in ended.err
        codes.append(ended.code)
    assert codes[0] == 130
    assert set(codes) <= {130, 2, -signal.SIGINT}, "2: it had refused the source; −2: Python had ended"


def test_sigterm_during_the_imports_ends_the_command_without_a_traceback(tmp_path: Path) -> None:
    with start(tmp_path, ["-m", "etl.migrate"], strike_at_import=0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.terminate()
        assert finished(process) == Outcome(-signal.SIGTERM, "", ""), "which a shell calls 143"


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start(tmp_path, ["-m", "etl.status"], strike_at_import=20)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert finished(process).code == 0


@pytest.mark.parametrize("module", ["runpy", "app", "app.main"])
def test_a_program_that_imports_the_package_keeps_its_own_handler(tmp_path: Path, module: str) -> None:
    (tmp_path / "app").mkdir()
    program = "import etl, signal\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    for name in ("__init__", "__main__", "main"):
        (tmp_path / "app" / f"{name}.py").write_text(program)
    arguments = ["app.main"] if module == "runpy" else []
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, "etl"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, b"")
