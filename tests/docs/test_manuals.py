"""docs/ is executed: commands, Python, Go, SQL, the cron line; pictures and paragraphs are compared with the code."""

import ast
import contextlib
import doctest
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from etl import shard_of
from etl.core import errors
from etl.runtime import lock
from tests.workplace import REPOSITORY, Outcome

DOCS = REPOSITORY / "docs"
MANUALS = sorted(path.name for path in DOCS.glob("*.md"))


def text(manual: str) -> str:
    return (DOCS / manual).read_text(encoding="utf-8")


def blocks(manual: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(manual), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a virtual environment's `python`, and the demo."""
    place = tmp_path_factory.mktemp("manual")
    (place / ".venv" / "bin").mkdir(parents=True)
    python = place / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    command = place / ".venv" / "bin" / "shard-migrate"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m etl "$@"\n')
    command.chmod(0o755)
    assert shell(place, "python -m etl.migrate --demo 20000").code == 0
    return place


def shell(place: Path, command: str, *, terminal: bool = True) -> Outcome:
    """Runs a line as a shell does, on a terminal or in cron; what it says on both channels is its `out`, in order."""
    paths = os.pathsep.join([str(place / ".venv" / "bin"), os.environ["PATH"]])
    ours, theirs = os.openpty() if terminal else os.pipe()
    with subprocess.Popen(
        ["sh", "-c", command],
        cwd=place,
        env={"PATH": paths, "HOME": str(place), "PYTHONPATH": str(REPOSITORY), "TERM": "dumb", "COLUMNS": "999"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        with closing(os.fdopen(ours, "rb", buffering=0)) as stream, contextlib.suppress(OSError):  # a terminal's end
            said = bytearray()
            while chunk := stream.read(4096):
                said += chunk
    return Outcome(process.returncode, said.decode().replace("\r\n", "\n"), "")


def sessions(manual: str) -> Iterator[tuple[str, str]]:
    """Each command of the console blocks, with what is shown under it."""
    for block in blocks(manual, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown


@pytest.mark.parametrize("manual", MANUALS)
def test_the_commands_say_what_is_shown(manual: str, tmp_path: Path, place: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copytree(place / ".venv", fresh / ".venv")
    for command, shown in sessions(manual):
        said = shell(fresh, command).out
        pattern = ".*".join(map(re.escape, shown.strip().split("…")))
        assert re.fullmatch(pattern, said.strip(), re.DOTALL), f"{command} said:\n{said}"


@pytest.mark.parametrize("manual", MANUALS)
def test_the_python_gives_what_is_shown(manual: str, place: Path) -> None:
    with contextlib.chdir(place):
        for block in blocks(manual, "python"):
            examples = doctest.DocTestParser().get_doctest(block, {}, manual, manual, 0)
            assert examples.examples
            assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_readmes_example_of_reading_runs(place: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```\n(import etl\n.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    with contextlib.chdir(place):
        exec(code, names)  # noqa: S102 - a document's code is run as it stands
    with closing(names["database"]) as database:
        (count,) = database.execute("SELECT count(*) FROM clients WHERE MOBILE_NUMBER = '00096046235'").fetchone()
    assert names["one"].height == count == 1
    assert names["rich"]["len"].sum() > 0


def test_no_block_is_of_a_kind_that_nothing_executes() -> None:
    kinds = {kind for manual in MANUALS for kind in re.findall(r"^```(\w*)$", text(manual), re.MULTILINE)}
    assert kinds - {""} <= {"console", "python", "go", "sql", "sh", "cron", "mermaid"}


# -- operations --------------------------------------------------------------------------------------------------------


def cron_commands(place: Path) -> list[str]:
    """The commands of the cron table, for that place."""
    (block,) = blocks("operations.md", "cron")
    lines = [line for line in block.splitlines() if "shard-migrate" in line]
    assert not any("%" in line for line in lines), "cron takes it for a line's end"
    return [re.sub(r"^(\S+ ){5}", "", line).replace("/srv/clients", str(place)) for line in lines]


def test_the_cron_lines_are_silent_unless_something_failed(place: Path, tmp_path: Path) -> None:
    commands = cron_commands(place)
    assert [command.partition("shard-migrate ")[2].split()[0] for command in commands] == [
        "migrate",
        "migrate",
        "verify",
    ]
    (place / ".env").write_text("SOURCE_DB=demo/clients.db\nSHARD_DIR=demo/shards\nLOG_DIR=demo\n")
    for command in commands:
        assert shell(tmp_path, command, terminal=False) == Outcome(0, "", "")
    for command in commands:
        work = lock.VERIFICATION if " verify" in command else lock.RUN
        with lock.exclusive(place / "demo" / "shards", "2020-01-01T00:00:00+00:00", work):
            busy = shell(tmp_path, command, terminal=False)
        assert (busy.code, "is at work here" in busy.out) == (3, True)
    (place / ".env").write_text("SOURCE_DB=nowhere.db\nSHARD_DIR=demo/shards\nLOG_DIR=demo\n")
    for command in commands:
        failed = shell(tmp_path, command, terminal=False)
        assert failed.code == 2
        assert "error: SOURCE_DB=nowhere.db: expected an SQLite file" in failed.out


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="apt-get install systemd: no systemd-analyze")
def test_the_systemd_units_are_valid(tmp_path: Path) -> None:
    command = tmp_path / "srv" / "shard-migrate"
    command.parent.mkdir()
    command.touch(mode=0o755)
    for path in (DOCS / "systemd").iterdir():
        unit = path.read_text(encoding="utf-8").replace("/srv/clients/.venv/bin/shard-migrate", str(command))
        (tmp_path / path.name).write_text(unit.replace("/srv/clients", str(tmp_path)), encoding="utf-8")
    units = sorted(map(str, tmp_path.glob("shard-migrate.*")))
    assert len(units) == 2
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "shard-migrate" in line]) == (0, [])


def test_the_fields_of_a_verification_are_those_it_leaves(place: Path) -> None:
    said = json.loads(shell(place, "SOURCE_DB=demo/clients.db SHARD_DIR=demo/shards python -m etl.verify --json").out)
    (told,) = re.findall(
        r"^`--json` prints one object.*?are: (.*?)\s`SHARD_DIR/", text("operations.md"), re.MULTILINE | re.DOTALL
    )
    assert re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", told, flags=re.DOTALL)) == list(said)


def test_each_exit_code_has_its_line() -> None:
    codes = {
        int(code)
        for line in re.findall(r"^\| ([\d, ]+) \|", text("operations.md"), re.MULTILINE)
        for code in line.split(",")
    }
    raised = {
        each.exit_code for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.EtlError)
    }
    assert codes == raised | {0, 4, 129, 130, 143}


# -- how it works ------------------------------------------------------------------------------------------------------


def modules() -> dict[str, ast.Module]:
    """Each module by its dotted name; a package is its `__init__`."""
    paths = [path.relative_to(REPOSITORY) for path in (REPOSITORY / "etl").rglob("*.py")]
    names = {path.parent if path.stem == "__init__" else path.with_suffix(""): path for path in paths}
    return {
        ".".join(name.parts): ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
        for name, path in sorted(names.items())
    }


def imports(tree: ast.Module) -> set[str]:
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in (node.module or "", *(f"{node.module}.{each.name}" for each in node.names))
    }


def arrows(picture: str) -> list[tuple[str, str]]:
    """The arrows of the picture that is named in its first line. A name in capitals is a file."""
    (block,) = [block for block in blocks("how-it-works.md", "mermaid") if f"%% {picture}\n" in block]
    lines = re.findall(r"^ +(\S.*?) -->(?:\|.*?\|)? (.*)$", block, re.MULTILINE)
    assert len(lines) > 10
    return [(re.split(r"[^\w.]", left)[0], re.split(r"[^\w.]", right)[0]) for left, right in lines]


def imports_between_packages() -> set[tuple[str, str]]:
    found = {path.parent.name for path in (REPOSITORY / "etl").glob("*/__init__.py")}
    pairs = {
        (name.split(".")[1], imported.split(".")[1])
        for name, tree in modules().items()
        for imported in imports(tree)
        if name.count(".") and imported.startswith("etl.")
    }
    return {(left, right) for left, right in pairs if {left, right} <= found and left != right}


def reached(start: str, drawn: Collection[tuple[str, str]]) -> set[str]:
    """The boxes that arrows lead to from this one."""
    nearest = {right for left, right in drawn if left == start}
    return nearest.union(*(reached(box, drawn) for box in nearest))


def test_the_picture_of_the_packages_shows_all_imports_between_them() -> None:
    real, drawn = imports_between_packages(), arrows("packages")
    assert sorted(set(drawn) - real) == [], "drawn, but no import"
    assert sorted((left, right) for left, right in real if right not in reached(left, drawn)) == [], "not drawn"
    boxes = {box for arrow in drawn for box in arrow}
    assert boxes == {path.parent.name for path in (REPOSITORY / "etl").glob("*/__init__.py")}


def test_the_flow_of_a_window_joins_modules_that_work_together() -> None:
    """One imports the other, or a third module imports both and passes on what one returns."""
    trees = modules()
    known = {name: imports(tree) | {name} for name, tree in trees.items()}
    for left, right in arrows("window"):
        names = {f"etl.{name}" for name in (left, right) if not name.isupper()}
        assert names <= trees.keys(), f"{left} --> {right}: no such module"
        assert any(names <= each for each in known.values()), f"{left} --> {right}: no module knows both"


def test_each_package_has_its_paragraph_and_each_name_in_it_exists() -> None:
    trees = modules()
    packages = {name for name in trees if (REPOSITORY / name.replace(".", "/")).is_dir()} - {"etl"}
    parts = re.split(r"^### `([\w.]+)`$", text("how-it-works.md"), flags=re.MULTILINE)[1:]
    paragraphs = dict(zip(parts[::2], parts[1::2], strict=True))
    assert paragraphs.keys() == packages
    for package, paragraph in paragraphs.items():
        members = {name.rpartition(".")[2] for name in trees if name.rpartition(".")[0] == package} - {"__main__"}
        named = set(re.findall(r"`([a-z_0-9]+)`", paragraph))
        assert named <= members, f"{package} has no module {named - members}"
        assert len(named) >= len(members) / 2, f"{package}: more than half of its modules are not named"
        assert "**Change here:**" in paragraph, package
        assert "**Keep:**" in paragraph, package


def test_the_places_that_answer_a_question_exist() -> None:
    places = re.findall(r"^\| .*\? \| (`.*) \|$", text("how-it-works.md"), re.MULTILINE)
    assert len(places) > 5
    paths = [path for place in places for path in re.findall(r"`([\w/.]+)`", place)]
    assert [path for path in paths if not [*(REPOSITORY / "etl").rglob(path.rstrip("/"))]] == []


# -- moving an application ---------------------------------------------------------------------------------------------


def golden() -> list[tuple[str, int]]:
    rows = re.findall(r"^\| .* \| `(\".*\")` \| (\d+) \|$", text("moving-an-application.md"), re.MULTILINE)
    return [(json.loads(key), int(shard)) for key, shard in rows]


def test_the_golden_vectors_are_those_of_the_package_and_of_the_three_lines() -> None:
    vectors = golden()
    assert len(vectors) >= 10
    assert {shard for _, shard in vectors} >= {0, 10}
    assert [(key, shard_of(key)) for key, _ in vectors] == vectors
    names: dict[str, object] = {}
    lines = [
        line[4:]
        for line in blocks("moving-an-application.md", "python")[1].splitlines()
        if line[:4] in (">>> ", "... ")
    ]
    exec("\n".join(lines[:-1]), names)  # noqa: S102 - a document's code is run as it stands
    assert [(key, names["shard_of"](key, 10, 10)) for key, _ in vectors] == vectors  # type: ignore[operator]  # the function just made


@pytest.mark.skipif(shutil.which("go") is None, reason="apt-get install golang-go: no Go compiler")
def test_the_go_routes_the_golden_vectors(tmp_path: Path) -> None:
    (program,) = blocks("moving-an-application.md", "go")
    (tmp_path / "main.go").write_text(program, encoding="utf-8")
    keys = "\n".join(json.dumps(key) for key, _ in golden())
    done = subprocess.run(
        ["go", "run", "main.go"],
        cwd=tmp_path,
        env={**os.environ, "GOCACHE": str(tmp_path / "cache"), "GO111MODULE": "off"},
        input=keys,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [int(line) for line in done.stdout.split()] == [shard for _, shard in golden()]


def test_the_sql_routes_the_golden_vectors() -> None:
    query, _ = blocks("moving-an-application.md", "sql")
    with closing(sqlite3.connect(":memory:")) as database:
        for key, shard in golden():
            digest = hashlib.sha256(key.encode()).hexdigest()
            (found,) = database.execute(query, {"digest": digest, "num_shards": 10}).fetchone()
            assert shard in (found, 10)
            assert (shard == 10) == (not key.strip("\t\n\v\f\r \x85\xa0\u1680\u2003\u2028\u3000")), "told first"
