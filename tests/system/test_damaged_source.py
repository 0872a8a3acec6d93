"""A source that is damaged, cut short or held by another program: every row that can be read, or one clear line."""

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from etl.sources.reader import Source
from etl.sqlite import stdlib
from tests.faults import flipped
from tests.workplace import Workplace, differences, error_line, migrate, shard_files, snapshot

FLIPS = 300
SHARES = 6
ROWS = 1_000
BUSY_SECONDS = 5
PATIENCE = 10


def small_pages(place: Workplace, rows: int = ROWS) -> bytes:
    """A source with a deep tree, so that damage hits its branches as well as its leaves."""
    place.script("PRAGMA page_size = 512", "CREATE TABLE clients (k TEXT, INN TEXT, note TEXT, amount REAL)")
    place.populate(rows)
    return place.source.read_bytes()


def assert_right_or_said(place: Workplace, stderr: pytest.CaptureFixture[str], what: object) -> int:
    """Migrates; the shards equal what an independent reading gives, or one line says what is wrong."""
    for path in [*place.shards.rglob("*"), *place.logs.rglob("*")]:
        if path.is_file():
            path.unlink()
    stderr.readouterr()
    started = time.monotonic()
    code = migrate(place.environ(INDEX_COLUMNS="k", WRITERS=1))
    assert time.monotonic() - started < PATIENCE, what
    err = stderr.readouterr().err
    if code == 0:
        assert differences(place.environ()) == [], what
    else:
        assert code in (1, 2), what
        assert [line for line in err.splitlines() if line.startswith("error: ")] == [error_line(err)], what
        assert str(place.source) in err or "rowids" in err, what
        assert "unexpected" not in err, what
    return code


def assert_flips_are_right_or_said(place: Workplace, stderr: pytest.CaptureFixture[str], seeds: range) -> None:
    sound, codes = small_pages(place), set()
    for seed in seeds:
        dice = random.Random(seed)
        place.source.write_bytes(flipped(sound, dice, times=dice.choice([1, 1, 1, 4])))
        codes.add(assert_right_or_said(place, stderr, seed))
    assert codes == {0, 1, 2}, "some flips must hurt, and some must not"


@pytest.mark.parametrize("share", range(SHARES))
def test_a_flipped_bit_is_never_a_silent_wrong_result(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], share: int
) -> None:
    each = FLIPS // SHARES
    assert_flips_are_right_or_said(workplace, capfd, range(share * each, (share + 1) * each))


FOUND_BY_LONG_TRIALS = {
    "an integer in a TEXT column": 466,
    "the last leaf is another": 863,
    "a text made a real": 2382,
    "the first rows are where no search leads": 5891,
    "a column's name is no UTF-8": 6042,
}


@pytest.mark.parametrize("seed", FOUND_BY_LONG_TRIALS.values(), ids=FOUND_BY_LONG_TRIALS.keys())
def test_damage_that_once_passed_in_silence_is_said(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], seed: int
) -> None:
    sound, dice = small_pages(workplace), random.Random(seed)
    workplace.source.write_bytes(flipped(sound, dice, times=dice.choice([1, 1, 1, 4])))
    assert assert_right_or_said(workplace, capfd, seed) in (1, 2)


@pytest.mark.soak
@pytest.mark.parametrize("share", range(40))
def test_ten_thousand_flipped_bits_are_never_a_silent_wrong_result(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], share: int
) -> None:
    assert_flips_are_right_or_said(workplace, capfd, range(1000 + share * 250, 1000 + (share + 1) * 250))


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.5, 0.9, 0.999])
def test_a_source_cut_short_is_said(workplace: Workplace, capfd: pytest.CaptureFixture[str], part: float) -> None:
    sound = small_pages(workplace)
    workplace.source.write_bytes(sound[: int(len(sound) * part)])
    assert assert_right_or_said(workplace, capfd, part) in (1, 2)
    workplace.source.write_bytes(sound)
    assert migrate(workplace.environ()) == 0
    assert differences(workplace.environ()) == []


def test_damage_that_comes_between_two_runs_leaves_the_shards_alone(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    small_pages(workplace)
    assert migrate(workplace.environ()) == 0
    workplace.populate(500, first=ROWS + 1)
    sound = workplace.source.read_bytes()
    before = snapshot(shard_files(workplace.environ()))
    workplace.source.write_bytes(sound[: len(sound) // 2])
    assert migrate(workplace.environ()) == 2
    assert "integrity_check" in error_line(capfd.readouterr().err)
    assert snapshot(shard_files(workplace.environ())) == before
    workplace.source.write_bytes(sound)
    assert migrate(workplace.environ()) == 0
    assert differences(workplace.environ()) == []


HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(place: Workplace) -> Iterator[None]:
    """Another program has the source for itself."""
    arguments = [sys.executable, "-c", HOLD, str(place.source)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.kill()


def test_a_source_that_is_held_from_the_start_is_said_after_the_busy_timeout(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdlib, "BUSY_TIMEOUT_S", 0.5)
    workplace.populate(ROWS)
    with held(workplace):
        started = time.monotonic()
        assert migrate(workplace.environ()) == 1
        assert time.monotonic() - started < PATIENCE
    message = error_line(capfd.readouterr().err)
    assert "locked" in message
    assert "run again" in message
    assert list(workplace.shards.glob("*.db")) == []
    assert migrate(workplace.environ()) == 0


def test_a_source_that_is_held_while_it_is_read_is_said_and_the_next_run_goes_on(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.populate(ROWS)
    read: Callable[..., Any] = Source.read
    holders = []

    def read_held(self: Source, *arguments: Any) -> Any:
        frame = read(self, *arguments)
        holders.append(held(workplace))
        holders[-1].__enter__()
        return frame

    monkeypatch.setattr(Source, "read", read_held)
    monkeypatch.setattr("etl.runtime.limits.READ_TASK_ROWS", 100)
    started = time.monotonic()
    assert migrate(workplace.environ()) == 1
    assert time.monotonic() - started < BUSY_SECONDS + PATIENCE
    message = error_line(capfd.readouterr().err)
    assert "locked" in message
    for holder in holders:
        holder.__exit__(None, None, None)
    monkeypatch.undo()
    assert migrate(workplace.environ()) == 0
    assert differences(workplace.environ()) == []


def test_a_row_that_sits_where_no_search_finds_it_is_not_passed_over(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    """A key in the tree's root is smaller than the last row below it."""
    sound = bytearray(small_pages(workplace))
    with closing(sqlite3.connect(workplace.source)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'clients'").fetchone()
    page = sound[(root - 1) * 512 : root * 512]
    assert page[0] == 5, "the root must be a branch"
    cell = (root - 1) * 512 + int.from_bytes(page[12:14])  # the first one: a child's page, then the key
    assert sound[cell + 4] & 0x80, "a key of two bytes"
    sound[cell + 4] -= 1  # 128 less: that many rows are now where no search for them goes
    workplace.source.write_bytes(sound)
    assert migrate(workplace.environ(READERS=64)) in (1, 2)
    assert "integrity_check" in error_line(capfd.readouterr().err)
