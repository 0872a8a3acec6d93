"""The commands: one list of them, an example in each --help, a version, and completion in a shell."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from inspect import signature
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

import etl
from etl.__main__ import COMMANDS, module_of
from etl.runtime import settings
from etl.runtime.console import SCHEMA_VERSION
from tests.commands import ran
from tests.workplace import REPOSITORY, Workplace, migrate


def test_every_module_that_is_a_command_is_in_the_list() -> None:
    root = Path(etl.__path__[0])
    packages = {path.parent.name for path in root.glob("*/__main__.py")}
    modules = {path.stem for path in root.glob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")}
    assert packages | modules - {"__main__"} == set(COMMANDS)


def test_without_arguments_it_lists_the_commands_one_a_line(workplace: Workplace) -> None:
    answer = ran("etl", workplace.environ())
    assert answer.code == 0
    listed = [line.strip() for line in answer.out.splitlines() if line.startswith("  ")]
    assert listed == [f"{name:<8} {meaning}" for name, meaning in COMMANDS.items()]
    assert max(map(len, answer.out.splitlines())) <= 80


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_shows_an_example_that_names_the_command(workplace: Workplace, name: str) -> None:
    answer = ran(f"etl.{name}" if name else "etl", workplace.environ(), "--help")
    assert answer.code == 0
    assert max(map(len, answer.out.splitlines())) <= 80
    example = re.search(r"Example: (.+)", answer.out)
    assert example is not None
    assert f"python -m etl{'.' + name if name else ''}" in example[1]
    assert re.findall(r"<(?!table>|column>).*>", answer.out) == [], "a type as Python calls it"
    assert re.findall(r".*\w-$", answer.out, re.MULTILINE) == [], "an option is broken at its hyphen"
    for paragraph in answer.out.partition("\n\n")[2].partition("Example: ")[0].split("\n\n"):
        widths = [len(line) + len(after.split()[0]) for line, after in pairwise(paragraph.splitlines())]
        assert all(width > 70 for width in widths), f"broken within a sentence: {paragraph}"


def test_help_says_what_goes_with_what() -> None:
    page = " ".join(CliRunner().invoke(import_module(module_of("migrate")).app, ["--help"]).output.split())
    assert "--budget DURATION With --refresh: " in page
    assert [flag for flag in settings.Settings.model_fields if flag.lower().replace("_", "-") not in page] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_each_command_succeeds(workplace: Workplace, name: str) -> None:
    workplace.script("CREATE TABLE clients (MOBILE_NUMBER TEXT)", "INSERT INTO clients VALUES ('00012345678')")
    (workplace.root / "clients.db").hardlink_to(workplace.source)
    indexes = settings.Settings.model_fields["INDEX_COLUMNS"].default
    environ = workplace.environ(SHARD_KEY="MOBILE_NUMBER", INDEX_COLUMNS=",".join(indexes))
    assert migrate(environ | {"SOURCE_DB": str(workplace.root / "clients.db")}) == 0
    assert ran("etl.verify", environ | {"SOURCE_DB": str(workplace.root / "clients.db")}).code == 0
    example = re.search(r"Example: (.+)", import_module(module_of(name)).main.__doc__)
    assert example is not None
    given = {"NUM_SHARDS": "3", "RESERVED_SHARD": "3", "PYTHONPATH": str(REPOSITORY)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    answer = subprocess.run(
        ["sh", "-c", example[1]],
        cwd=workplace.root,
        env={**os.environ, **given, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_the_json_of_every_command_begins_with_its_schema_version(migrated: dict[str, str]) -> None:
    commands = [name for name in COMMANDS if "as_json" in signature(import_module(module_of(name)).main).parameters]
    assert {"migrate", "status", "verify"} <= set(commands)
    for name in commands:
        answer = ran(f"etl.{name}", migrated, "--json", *["--plan"][: name == "migrate"])
        assert next(iter(json.loads(answer.out).items())) == ("schema_version", SCHEMA_VERSION), name


@pytest.mark.parametrize("module", ["etl", *(f"etl.{name}" for name in COMMANDS)])
def test_every_command_prints_the_version(workplace: Workplace, module: str) -> None:
    answer = ran(module, workplace.environ(), "--version")
    assert (answer.code, answer.out) == (0, f"shard-migrate {etl.__version__}\n")


def test_a_command_runs_from_the_list_too(workplace: Workplace) -> None:
    workplace.populate(10)
    assert ran("etl", workplace.environ(), "migrate").code == 0
    assert "10 rows" in ran("etl", workplace.environ(), "status").out


@pytest.mark.parametrize(
    ("words", "completed"),
    [("shard-migrate st", ["status"]), ("shard-migrate migrate --pl", ["--plan"]), ("shard-migrate ", [*COMMANDS])],
)
def test_bash_completes_commands_and_options(workplace: Workplace, words: str, completed: list[str]) -> None:
    command = workplace.root / "shard-migrate"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m etl "$@"\n')
    command.chmod(0o755)
    script = (
        'eval "$(shard-migrate --show-completion)"; COMP_WORDS=($1 $2); COMP_CWORD=$3; '
        '_shard_migrate_completion shard-migrate; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    typed, count = words.split(), words.count(" ")
    answer = subprocess.run(
        ["bash", "-c", script, "bash", " ".join(typed), "", str(count)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": f"{workplace.root}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout.split() == completed, answer.stderr
