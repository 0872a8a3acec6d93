"""The checks before the first byte is written: the disk, the files, the limits."""

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


def test_a_disk_too_small_is_refused_before_anything_is_written(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(ROWS)
    have_free(monkeypatch, 0.5 * MB)
    assert migrate(workplace.environ(INDEX_COLUMNS="k")) == 2
    message = error_line(capfd.readouterr().err)
    assert "found 500.0 kB" in message
    assert "--force" in message
    assert str(workplace.shards) in message
    assert not list(workplace.shards.glob("*.db*"))
    assert not list(workplace.shards.glob("manifest/*"))


def test_force_tries_a_disk_that_seems_too_small(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace.populate(ROWS)
    have_free(monkeypatch, 0.5 * MB)
    assert run(workplace.environ(), force=True) == 0
    assert faults_of(workplace.environ()) == []


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(("most", "writers", "code"), [(100, 2, 2), (140, 200, 2), (140, 2, 0)])
def test_a_limit_of_open_files_that_is_too_low_is_refused(
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


def test_a_read_only_shard_is_refused_before_another_is_changed(
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
