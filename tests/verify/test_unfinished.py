"""An unfinished load is no difference: verify says that migrate is to run, and still finds rows that differ."""

import signal

import pytest

from etl.verify.command import run
from etl.verify.scope import Scope
from tests.damage import at
from tests.faults import struck
from tests.verifier import Verifier
from tests.workplace import Workplace, migrate, shard_files

ROWS = 2_000
KILLS = [
    ("mid-batch", 40, False),
    ("between two shards' commits", 1, False),
    ("between two shards' commits", 1, True),
    ("before a manifest file", 2, True),
    ("among the compacted parts", 2, False),
    ("between two indexes of a shard", 1, False),
    ("before a shard turns to WAL", 4, False),
]


@pytest.mark.parametrize(("name", "n", "serving"), KILLS)
def test_a_load_killed_anywhere_has_no_differences(
    workplace: Workplace, verify: Verifier, name: str, n: int, *, serving: bool
) -> None:
    """In a first load, or in one of shards that serve."""
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    if serving:
        workplace.populate(ROWS)
        assert migrate(environ) == 0
    workplace.populate(ROWS, first=ROWS + 1, seed=2)
    assert struck(environ, name, n).code == -signal.SIGKILL
    said = verify(environ, Scope(quick=True))
    assert (said["exit_code"], said["outcome"], said["differences"]) == (2, "unfinished", {})
    assert (said["full"], said["source_rows"] + said["newer_rows"]) == (False, 2 * ROWS if serving else ROWS)
    assert (said["compared_percent"] == 100.0) == (said["newer_rows"] == 0)
    assert migrate(environ) == 0
    said = verify(environ, Scope(quick=True))
    assert (said["outcome"], said["newer_rows"]) == ("equal", 0)


def test_rows_that_differ_are_said_besides(
    workplace: Workplace, verify: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ()
    assert migrate(environ) == 0
    workplace.populate(ROWS, first=ROWS + 1, seed=2)
    assert struck(environ, "between two shards' commits", 1).code == -signal.SIGKILL
    assert verify(environ)["outcome"] == "unfinished"
    at(205, "UPDATE clients SET note = note || '.' WHERE rowid = 205")(environ)
    said = verify(environ)
    assert (said["exit_code"], said["outcome"], said["differences"]) == (4, "different", {"changed": 1})
    capsys.readouterr()
    assert run(environ) == 4
    assert "the load is unfinished: run migrate" in capsys.readouterr().out


def test_before_any_shard_is_made_it_is_refused(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ()
    assert struck(environ, "before a read", 1).code == -signal.SIGKILL
    assert shard_files(environ) == []
    assert run(environ) == 2
    assert "expected shards to verify, found none; the load is unfinished: run migrate" in capsys.readouterr().err
