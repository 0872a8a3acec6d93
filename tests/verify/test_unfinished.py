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
    ("before a shard has its table", 4),
    ("before a shard has its identity", 3),
    ("after a shard is made, before its first rows", 4),
    ("after a read", 12),
    ("mid-batch", 40),
    ("before a ledger line", 9),
    ("before a commit", 9),
    ("between two shards' commits", 1),
    ("between two shards' commits", 4),
    ("between two shards' commits", 10),
    ("before a manifest file", 2),
    ("after a manifest file", 2),
    ("between the compact manifest and its parts", 1),
    ("among the compacted parts", 2),
    ("before an index", 1),
    ("before an index", 4),
    ("between two indexes of a shard", 1),
    ("before a shard turns to WAL", 1),
    ("before a shard turns to WAL", 4),
]


@pytest.mark.parametrize("serving", [False, True], ids=["a first load", "an increment"])
@pytest.mark.parametrize(("name", "n"), KILLS)
def test_a_load_killed_anywhere_has_no_differences(
    workplace: Workplace, verify: Verifier, name: str, n: int, *, serving: bool
) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    if serving:
        workplace.populate(ROWS)
        assert migrate(environ) == 0
    workplace.populate(ROWS, first=ROWS + 1, seed=2)
    if struck(environ, name, n).code != -signal.SIGKILL:
        pytest.skip("an increment does not come to this point so often")
    said = verify(environ, Scope(quick=True))
    assert said["differences"] == {}
    assert (said["exit_code"], said["outcome"]) in {(2, "unfinished"), (0, "equal")}
    assert serving or said["outcome"] == "unfinished"
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
    assert "found none; run migrate" in capsys.readouterr().err
