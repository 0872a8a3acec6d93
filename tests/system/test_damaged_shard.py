"""One shard's file lost, cut short or overwritten: an error that names it, and a rerun that rebuilds it alone."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.completeness import faults_of
from tests.workplace import Workplace, error_line, migrate, shard_files, snapshot

ROWS = 5_000


def noise(first: float, last: float) -> Callable[[Path], None]:
    """Overwrites that share of the file."""

    def overwrite(path: Path) -> None:
        data = bytearray(path.read_bytes())
        start, stop = int(len(data) * first), int(len(data) * last)
        data[start:stop] = random.Random(1).randbytes(stop - start)
        path.write_bytes(data)

    return overwrite


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def clip(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def turn_into_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = {
    "cut in half": halve,
    "cut within its last page": clip,
    "all noise": noise(0, 1),
    "noise in its header": noise(0, 0.001),
    "noise at its beginning": noise(0.001, 0.3),
    "noise in its middle": noise(0.3, 0.7),
    "noise at its end": noise(0.7, 1),
    "a directory": turn_into_a_directory,
}


@pytest.mark.parametrize("harm", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_shard_is_named_with_the_way_out_and_rebuilt_alone(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], harm: Callable[[Path], None]
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    assert migrate(environ) == 0
    victim = shard_files(environ)[1]
    workplace.populate(300, first=ROWS + 1)
    harm(victim)
    assert migrate(environ) in (1, 2)
    message = error_line(capfd.readouterr().err)
    assert str(victim) in message
    assert "move" in message
    assert "away" in message
    victim.rename(workplace.root / "moved away")
    assert migrate(environ) == 0
    assert faults_of(environ) == []


@pytest.mark.parametrize("harm", [Path.unlink, empty])
def test_a_shard_that_is_gone_is_rebuilt_and_the_others_are_not_touched(
    workplace: Workplace, harm: Callable[[Path], None]
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    assert migrate(environ) == 0
    victim, *others = shard_files(environ)
    before = {path: state.digest for path, state in snapshot(others).items()}
    harm(victim)
    assert migrate(environ) == 0
    assert {path: state.digest for path, state in snapshot(others).items()} == before
    assert faults_of(environ) == []


@pytest.mark.parametrize("leftover", ["-wal", "-journal"])
def test_what_a_moved_shard_leaves_beside_it_harms_nothing(workplace: Workplace, leftover: str) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ()
    assert migrate(environ) == 0
    victim = shard_files(environ)[0]
    victim.unlink()
    victim.with_name(victim.name + leftover).write_bytes(random.Random(2).randbytes(9000))
    assert migrate(environ) == 0
    assert faults_of(environ) == []


@pytest.mark.parametrize(
    "harm", [harm for name, harm in DAMAGES.items() if name not in ("noise in its middle", "noise at its end")]
)
def test_damage_that_is_seen_before_the_load_leaves_every_file_as_it_is(
    workplace: Workplace, harm: Callable[[Path], None]
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ()
    assert migrate(environ) == 0
    workplace.populate(300, first=ROWS + 1)
    harm(shard_files(environ)[1])
    before = {path: state.digest for path, state in snapshot(shard_files(environ)).items()}
    assert migrate(environ) in (1, 2)
    assert {path: state.digest for path, state in snapshot(shard_files(environ)).items()} == before


def test_the_way_out_goes_by_the_error_not_by_words_of_the_path(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(ROWS)
    home = workplace.root / "database or disk is full" / "is locked"
    environ = workplace.environ(SHARD_DIR=home)
    assert migrate(environ) == 0
    halve(shard_files(environ)[1])
    assert migrate(environ) == 1
    assert error_line(capfd.readouterr().err).endswith("move the file away; the next run rebuilds this shard")
