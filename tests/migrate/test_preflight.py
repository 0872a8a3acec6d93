"""What is looked at before the first byte is written: the disk, the files, the limits."""

import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.migrate import preflight
from etl.migrate.command import run
from tests.completeness import faults_of
from tests.faults import unwritable
from tests.workplace import Workplace, error_line, migrate, shard_files, snapshot

MB = 1_000_000
ROWS = 30_000


@pytest.fixture
def limit() -> Iterator[None]:
    """Puts this process's limit of open files back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def have_free(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, int(size)))  # type: ignore[attr-defined]  # noqa: SLF001 - its answer's own type


def estimates(workplace: Workplace) -> list[dict[str, int]]:
    lines = [line for path in sorted(workplace.logs.glob("logs/*")) for line in path.read_text().splitlines()]
    return [event for event in map(json.loads, lines) if event["event"] == "room"]


def test_a_disk_too_small_is_said_before_anything_is_written(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(ROWS)
    have_free(monkeypatch, 0.5 * MB)
    assert migrate(workplace.environ(INDEX_COLUMNS="k")) == 2
    message = error_line(capfd.readouterr().err)
    assert "found 0.5 MB" in message
    assert "--force" in message
    assert str(workplace.shards) in message
    assert not list(workplace.shards.glob("*.db*"))
    assert not list(workplace.shards.glob("manifest/*"))


DATA = {
    "no index": ("k TEXT, a TEXT", "'key' || i, 'some text of a row, numbered ' || i", ""),
    "two indexes": ("k TEXT, a TEXT", "'key' || i, 'some text of a row, numbered ' || i", "k,a"),
    "numbers": ("k INTEGER, a REAL", "i * 77, i / 3.0", "k"),
    "large rows": ("k TEXT, a BLOB", "'key' || i, zeroblob(i % 3000)", ""),
    "sparse rowids": ("id INTEGER PRIMARY KEY, k TEXT", "i * 1000003, 'key' || i", "k"),
}


@pytest.mark.parametrize(("columns", "cells", "indexed"), DATA.values(), ids=DATA.keys())
def test_the_estimate_is_enough_and_not_twice_what_a_load_takes(
    workplace: Workplace, columns: str, cells: str, indexed: str
) -> None:
    rows = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT {cells} FROM n"
    workplace.script(f"CREATE TABLE clients ({columns})", f"INSERT INTO clients {rows}")
    environ = workplace.environ(INDEX_COLUMNS=indexed, BATCH_SIZE=6000)
    assert migrate(environ) == 0
    (room,) = estimates(workplace)
    taken = sum(path.stat().st_size for path in shard_files(environ))
    assert taken <= room["rows"] + room["indexes"] <= 2 * taken


def test_only_what_is_still_to_do_needs_room(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k", BATCH_SIZE=6000)
    assert migrate(environ) == 0
    have_free(monkeypatch, 1 * MB)  # a third of what the whole takes
    assert migrate(environ) == 0
    workplace.populate(500, first=ROWS + 1)
    assert migrate(environ) == 0
    assert migrate(environ | {"INDEX_COLUMNS": "k,INN"}) == 0
    first, more, index = estimates(workplace)
    assert more["rows"] < first["rows"] / 20
    assert index["rows"] == 0
    assert 0 < index["indexes"] < first["indexes"]
    assert faults_of(environ) == []


def test_a_shard_moved_away_needs_its_own_room_only(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(BATCH_SIZE=6000)
    assert migrate(environ) == 0
    shard_files(environ)[1].unlink()
    assert migrate(environ) == 0
    first, one = estimates(workplace)
    assert first["rows"] / 6 < one["rows"] < first["rows"] / 2


def test_a_disk_that_seems_too_small_can_be_tried(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace.populate(ROWS)
    have_free(monkeypatch, 0.5 * MB)
    assert run(workplace.environ(), force=True) == 0
    assert faults_of(workplace.environ()) == []


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(("most", "writers", "code"), [(100, 2, 2), (140, 200, 2), (140, 2, 0)])
def test_a_limit_of_open_files_too_low_to_work_with_is_said(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], most: int, writers: int, code: int
) -> None:
    workplace.populate(500)
    environ = workplace.environ(WRITERS=writers, NUM_SHARDS=200, RESERVED_SHARD=200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    assert migrate(environ) == code
    if code:
        message = error_line(capfd.readouterr().err)
        assert "ulimit -n" in message
        assert str(most) in message
        assert not list(workplace.shards.glob("*.db"))


def test_a_shard_that_cannot_be_written_is_named_before_another_is_touched(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(500)
    environ = workplace.environ()
    assert migrate(environ) == 0
    workplace.populate(500, first=501)
    before = snapshot(shard_files(environ))
    locked = Path(shard_files(environ)[2])
    with unwritable(locked):
        assert migrate(environ) == 2
    assert str(locked) in error_line(capfd.readouterr().err)
    assert snapshot(shard_files(environ)) == before
    assert migrate(environ) == 0
    assert faults_of(environ) == []
