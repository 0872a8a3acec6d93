"""A full disk, real and small: one clear line, nothing half-committed, and the next run completes the work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from etl.migrate import command
from tests.completeness import faults_of, ledger
from tests.faults import FORCED, Disk, disk
from tests.workplace import Outcome, Workplace, error_line, migrate, shard_files

ROWS = 20_000
KIB_OF_ALL = 20_000


def assert_one_line(outcome: Outcome, *, code: int, place: Path) -> None:
    assert outcome.code == code, outcome.err
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert errors == [error_line(outcome.err)]
    assert str(place) in errors[0]
    assert "run again" in errors[0]
    assert "unexpected" not in errors[0]


@pytest.mark.parametrize("size_kib", [100, 700, 1300, 1900, 2500, 2800])
def test_a_disk_that_fills_up_ends_the_run_and_the_next_completes_it(workplace: Workplace, size_kib: int) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,INN,note", BATCH_SIZE=2000)
    with disk(workplace.shards, size_kib=size_kib) as small:
        assert_one_line(workplace.command(environ, *FORCED), code=1, place=workplace.shards)
        rows = [sum(ledger(path).values()) for path in shard_files(environ) if path.stat().st_size]
        assert sum(rows) <= ROWS
        small.resize(KIB_OF_ALL)
        assert migrate(environ) == 0
        assert faults_of(environ) == []


def test_serving_shards_outlive_a_full_disk(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k", BATCH_SIZE=2000)
    with disk(workplace.shards, size_kib=KIB_OF_ALL) as small:
        assert migrate(environ) == 0
        done = {path: ledger(path) for path in shard_files(environ)}
        workplace.populate(ROWS // 20, first=ROWS + 1)
        hog = small.fill(but_kib=40)
        assert_one_line(workplace.command(environ, *FORCED), code=1, place=workplace.shards)
        hog.unlink()
        assert all(done[path].items() <= ledger(path).items() for path in done)
        assert migrate(environ) == 0
        assert faults_of(environ) == []


def of_the_manifest(place: Workplace) -> Path:
    return place.shards / "manifest"


def of_the_log(place: Workplace) -> Path:
    return place.logs / "logs"


@pytest.mark.parametrize("where", [of_the_manifest, of_the_log])
def test_a_full_disk_of_its_own_ends_the_run(workplace: Workplace, where: Callable[[Workplace], Path]) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    path = where(workplace)
    with disk(path, size_kib=100) as small:
        hog = small.fill()
        assert_one_line(workplace.command(environ), code=1, place=path)
        hog.unlink()
        assert migrate(environ) == 0
        assert faults_of(environ) == []


def test_a_log_that_fills_up_in_the_middle_ends_the_run(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(BATCH_SIZE=20)
    monkeypatch.setattr("etl.runtime.limits.READ_TASK_ROWS", 100)
    with disk(workplace.logs, size_kib=40):
        assert command.run(environ) == 1
        message = error_line(capfd.readouterr().err)
        assert "the log cannot be written" in message
        assert str(workplace.logs) in message
    assert migrate(environ | {"LOG_DIR": str(workplace.root / "other")}) == 0
    assert faults_of(environ) == []


def test_the_disk_that_is_full_is_really_full(tmp_path: Path) -> None:
    with disk(tmp_path / "small", size_kib=64) as small:
        assert small == Disk(tmp_path / "small")
        hog = small.fill()
        assert 0 < hog.stat().st_size <= 64 * 1024
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "small" / "more").write_bytes(bytes(8192))
