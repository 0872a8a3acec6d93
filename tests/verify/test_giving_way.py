"""A verification that gives way to a run: what the run changed meanwhile is compared once more at the end."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from etl.runtime.lock import Turn
from etl.verify.checker import Checker
from etl.verify.chunks import Chunks
from etl.verify.command import run
from etl.verify.halt import Cause, Halt
from etl.verify.inventory import Inventory
from etl.verify.scope import Scope
from tests.commands import ran
from tests.damage import ROWS, Environ, at
from tests.verifier import Verifier
from tests.workplace import Workplace, error_line, shard_files


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is a window of 100 rows, and a chunk has three."""
    monkeypatch.setattr("etl.verify.blocks.BLOCK_BYTES", 1)
    monkeypatch.setattr("etl.verify.blocks.CHUNK_BLOCKS", 16_500)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Does something after so many chunks, where a run would have the shards."""

    def arrange(work: Callable[[], object], *, after: int = 1) -> None:
        compare, taken, chunks, turns = Checker.run, Turn.taken, count(1), count(1)

        def compared(checker: Checker, source: Any) -> Any:
            result = compare(checker, source)
            if next(chunks) == after:
                checker.cause = Cause.RUN
            return result

        def taken_after_work(turn: Turn, check_stop: Callable[[], None]) -> AbstractContextManager[None]:
            if next(turns) == 2:
                work()
            return taken(turn, check_stop)

        monkeypatch.setattr(Checker, "run", compared)
        monkeypatch.setattr(Turn, "taken", taken_after_work)

    return arrange


def test_what_a_refresh_repaired_meanwhile_is_no_difference(
    workplace: Workplace, migrated: Environ, verify: Verifier, meanwhile: Callable[..., None]
) -> None:
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid IN (5, 6)")
    workplace.populate(300, first=ROWS + 1, seed=2)
    meanwhile(lambda: ran("etl.migrate", migrated, "--refresh"))
    said = verify(migrated, Scope(quick=True))
    assert (said["outcome"], said["differences"], said["full"]) == ("equal", {}, True)
    assert (said["source_rows"], said["newer_rows"], said["compared_percent"]) == (ROWS + 300, 0, 100.0)
    assert "proved: 100.0 % of rowids" in ran("etl.status", migrated).out


def test_a_shard_that_a_run_rebuilt_meanwhile_is_compared(
    migrated: Environ, verify: Verifier, meanwhile: Callable[..., None]
) -> None:
    lost: Path = shard_files(migrated)[1]
    lost.unlink()
    meanwhile(lambda: ran("etl.migrate", migrated))
    said = verify(migrated, Scope(quick=True))
    assert (said["outcome"], said["shards"], said["shard_rows"]) == ("equal", 4, ROWS)


def test_what_still_differs_is_said_once(migrated: Environ, verify: Verifier, meanwhile: Callable[..., None]) -> None:
    at(205, "UPDATE clients SET note = note || '.' WHERE rowid = 205")(migrated)
    meanwhile(lambda: None)
    said = verify(migrated, Scope(quick=True))
    assert (said["outcome"], said["differences"], said["source_rows"]) == ("different", {"changed": 1}, ROWS)


def test_differences_count_until_they_are_compared_once_more(
    migrated: Environ, verify: Verifier, meanwhile: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for rowid in (205, 405):
        at(rowid, f"UPDATE clients SET note = note || '.' WHERE rowid = {rowid}")(migrated)
    meanwhile(lambda: None, after=2)
    once_more = Chunks.once_more

    def without_time(chunks: Chunks, inventory: Inventory) -> bool:
        monkeypatch.setattr(Halt, "cause", Cause.BUDGET)  # time for one block of one chunk
        return once_more(chunks, inventory)

    monkeypatch.setattr(Chunks, "once_more", without_time)
    said = verify(migrated, Scope(budget_s=1000.0))
    assert (said["outcome"], said["full"]) == ("different", False)
    assert said["differences"] == {"changed": 2}


@pytest.mark.parametrize("moment", ["compare", "trace", "check files"])
def test_a_directory_that_is_deleted_ends_it(
    workplace: Workplace,
    migrated: Environ,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moment: str,
) -> None:
    at(205, "UPDATE clients SET note = note || '.' WHERE rowid = 205")(migrated)
    owner, name = {
        "compare": (Checker, "run"),
        "trace": (Checker, "_trace"),
        "check files": (Inventory, "check_files"),
    }[moment]
    real = getattr(owner, name)

    def without_directory(*args: Any) -> Any:
        shutil.rmtree(workplace.shards, ignore_errors=True)
        return real(*args)

    monkeypatch.setattr(owner, name, without_directory)
    capsys.readouterr()
    assert run(migrated) in {1, 2}
    assert "found no directory: it was deleted" in error_line(capsys.readouterr().err)
    assert not workplace.shards.exists()
