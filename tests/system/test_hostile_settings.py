"""Every setting with values that were made to hurt: the work is done right, or one line says why not."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.migrate.command import run
from etl.runtime.settings import Settings
from tests.completeness import faults_of
from tests.faults import unwritable
from tests.workplace import Workplace, error_line, migrate, snapshot

VALUES = [
    *(
        "'; DROP TABLE clients;--",
        '"',
        "\x1b[31mred",
        "a\nb",
        "a\u2028b",
        "$(touch pwned)",
        "`touch pwned`",
        "%s{0}{WRITERS}",
    ),
    *("../../x", "\udcff\udcfe", "x" * 5000, "é\u0301\u202e😀", "-rf", "~", "file:x?mode=rwc", ":memory:", "1e999"),
    *("/dev/null", "/dev/full", "/proc/self/mem", "/dev/zero/x", " ", "0", "-1"),
]


def assert_right_or_said(code: int, err: str) -> None:
    assert "Traceback" not in err
    assert "unexpected" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code in (0, 1, 2)
    assert bool(errors) == (code != 0), err
    assert all(line.isprintable() for line in errors)
    if errors:  # one a fault, and nothing after them
        assert err.splitlines()[-len(errors) :] == errors


@pytest.mark.parametrize("name", Settings.model_fields)
def test_no_value_of_a_setting_hurts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for number, value in enumerate(VALUES):
        place = Workplace(tmp_path / f"{number}" / "deep" / "down")
        place.root.mkdir(parents=True)
        monkeypatch.chdir(place.root)  # relative paths lead somewhere in here
        place.populate(40)
        before = snapshot([place.source])
        code = migrate(place.environ(**{name: value}))
        err = capfd.readouterr().err
        assert_right_or_said(code, err)
        assert err.count("error: ") == (code != 0)
        assert snapshot([place.source]) == before
    assert not list(tmp_path.rglob("pwned"))


LINES = {
    "a command": "TABLE_NAME=$(touch pwned)",
    "a command in quotes": 'TABLE_NAME="`touch pwned`"',
    "another setting filled in": "TABLE_NAME=${SHARD_KEY}",
    "no assignment": "touch pwned",
    "a bad name": "TABLE NAME=clients",
    "half a quote": "TABLE_NAME='clients",
    "control characters": "TABLE_NAME=\x1b]0;title\x07",
    "a zero byte": "TABLE_NAME=cli\0ents",
    "the same name twice": "TABLE_NAME=clients\nTABLE_NAME=others",
    "a very long line": "TABLE_NAME=" + "x" * 100_000,
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_bad_line_of_the_env_file_executes_nothing_and_is_said(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(workplace.root)
    workplace.populate(40)
    Path(".env").write_text(f"{line}\n", encoding="utf-8")
    environ = workplace.environ()
    del environ["TABLE_NAME"]
    code = run(environ, Path(".env"))
    assert code == 2
    assert_right_or_said(code, capfd.readouterr().err)
    assert not list(workplace.root.rglob("pwned"))
    assert not list(workplace.shards.glob("*.db"))


def inside_the_sources(place: Workplace) -> Path:
    return place.root


def a_symlink(place: Workplace) -> Path:
    (place.root / "real").mkdir()
    (place.root / "link").symlink_to("real")
    return place.root / "link"


def a_symlink_to_nothing(place: Workplace) -> Path:
    (place.root / "link").symlink_to("nowhere")
    return place.root / "link"


def a_file(place: Workplace) -> Path:
    (place.root / "file").write_text("in the way")
    return place.root / "file"


def below_a_file(place: Workplace) -> Path:
    return a_file(place) / "deep"


WORKING = [inside_the_sources, a_symlink]


@pytest.mark.parametrize("where", WORKING)
def test_a_shard_dir_in_an_odd_place_works(workplace: Workplace, where: Callable[[Workplace], Path]) -> None:
    workplace.populate(500)
    source = workplace.source.rename(workplace.root / "source.sqlite")  # the checks take each *.db for a shard
    environ = workplace.environ(SOURCE_DB=source, SHARD_DIR=where(workplace), INDEX_COLUMNS="k")
    assert migrate(environ) == 0
    assert migrate(environ) == 0
    assert faults_of(environ) == []


@pytest.mark.parametrize("where", [a_symlink_to_nothing, a_file, below_a_file])
def test_a_shard_dir_that_cannot_be_one_is_refused(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], where: Callable[[Workplace], Path]
) -> None:
    workplace.populate(500)
    path = where(workplace)
    assert migrate(workplace.environ(SHARD_DIR=path)) == 2
    assert f"SHARD_DIR={path}" in error_line(capfd.readouterr().err)


def test_a_shard_dir_that_is_not_writable_is_refused(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    workplace.populate(500)
    workplace.shards.mkdir()
    with unwritable(workplace.shards):
        assert migrate(workplace.environ()) == 2
    assert f"SHARD_DIR={workplace.shards}" in error_line(capfd.readouterr().err)
    assert list(workplace.shards.iterdir()) == []


def test_a_shard_dir_that_became_read_only_is_refused_and_nothing_is_touched(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(500)
    assert migrate(workplace.environ()) == 0
    workplace.populate(100, first=501)
    before = snapshot(workplace.shards.glob("*.db"))
    with unwritable(workplace.shards):
        assert migrate(workplace.environ()) == 2
    assert str(workplace.shards) in error_line(capfd.readouterr().err)
    assert snapshot(workplace.shards.glob("*.db")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names of any bytes")
def test_a_source_whose_name_is_no_utf8_is_refused(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    workplace.populate(200)
    odd = Path(os.fsdecode(os.fsencode(workplace.root) + b"/\xff\xfe.db"))
    shutil.move(workplace.source, odd)
    assert migrate(workplace.environ(SOURCE_DB=odd)) == 2
    assert "UTF-8" in error_line(capfd.readouterr().err)
