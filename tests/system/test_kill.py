"""kill -9 at every boundary of a migration: the next run makes it whole, and the one after finds nothing to do."""

import signal
from collections.abc import Sequence

import pytest

from tests.completeness import faults_of, manifest
from tests.faults import POINTS, struck
from tests.workplace import Workplace, differences, migrate

ROWS = 2_000
NEW_ROWS = 500
KILLS: dict[str, Sequence[int]] = {
    "before a shard has its table": (1, 4),
    "before a shard has its identity": (1, 3),
    "after a shard is made, before its first rows": (1, 2, 4),
    "before a read": (1, 2, 15),
    "after a read": (1, 12),
    "mid-batch": (1, 2, 40),
    "before a ledger line": (1, 2, 9),
    "before a commit": (1, 2, 9),
    "between two shards' commits": (1, 2, 3, 4, 10),
    "before a manifest file": (1, 2),
    "before a manifest file's bytes": (1, 2),
    "before a manifest file's name": (1, 2),
    "after a manifest file": (1, 2),
    "between the compact manifest and its parts": (1,),
    "among the compacted parts": (1, 2),
    "before an index": (1, 4),
    "between two indexes of a shard": (1,),
    "before a small shard's indexes are committed": (1,),
    "before the planner's statistics": (1, 4),
    "before a shard turns to WAL": (1, 4),
    "after a shard has turned to WAL": (1, 4),
}
ONCE = [(name, n) for name, passes in KILLS.items() for n in passes]
LOST_THE_MANIFEST = ("before a manifest file", 1)
TWICE = [
    (LOST_THE_MANIFEST, ("between the repaired manifest and the old one", 1)),
    (LOST_THE_MANIFEST, ("among the repaired parts", 1)),
    (LOST_THE_MANIFEST, ("before a manifest file's name", 1)),
    (LOST_THE_MANIFEST, LOST_THE_MANIFEST),
    (("among the compacted parts", 2), ("among the repaired parts", 2)),
    (("among the compacted parts", 2), ("between the repaired manifest and the old one", 1)),
    (("between two shards' commits", 3), ("between two shards' commits", 2)),
    (("between two shards' commits", 3), ("between two shards' discards", 1)),
    (("mid-batch", 30), ("before a ledger line", 2)),
    (("before a shard has its identity", 3), ("before a shard has its identity", 1)),
    (("between two indexes of a shard", 1), ("between two indexes of a shard", 1)),
]


def assert_made_whole(environ: dict[str, str], stdout: pytest.CaptureFixture[str]) -> None:
    assert migrate(environ) == 0
    assert faults_of(environ) == []
    stdout.readouterr()
    assert migrate(environ) == 0
    assert "nothing new" in stdout.readouterr().out
    assert faults_of(environ) == []


def assert_killed(environ: dict[str, str], name: str, n: int) -> None:
    """A point that is never reached is a test that tests nothing."""
    outcome = struck(environ, name, n)
    assert outcome.code == -signal.SIGKILL, f"never at {name!r} {n} times: exit {outcome.code}, {outcome.err}"


JOINS = [
    ("before joined lines are committed", 1),
    ("before joined lines are committed", 3),
    ("between two shards' joins", 1),
    ("between two shards' joins", 4),
    ("between the repaired manifest and the old one, joined", 1),
    ("among the repaired parts, joined", 1),
]


def test_every_point_is_killed_at() -> None:
    assert {name.removesuffix(", joined") for name, _ in JOINS} | {name for name, _ in ONCE} | {
        name for kills in TWICE for name, _ in kills
    } == POINTS.keys()


@pytest.mark.parametrize(("name", "n"), ONCE)
def test_a_run_killed_anywhere_is_made_whole_by_the_next(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], name: str, n: int
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    assert_killed(environ, name, n)
    assert_made_whole(environ, capsys)


@pytest.mark.parametrize("kills", TWICE, ids=[" then ".join(f"{name} {n}" for name, n in kills) for kills in TWICE])
def test_a_run_killed_while_it_mends_a_killed_one_is_made_whole_by_the_next(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], kills: Sequence[tuple[str, int]]
) -> None:
    workplace.populate(NEW_ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    if kills[0][0].startswith(("before a manifest", "after a manifest", "among the")):
        assert migrate(environ) == 0  # so that there is a manifest to lose or to keep
    workplace.populate(ROWS, first=NEW_ROWS + 1, seed=2)
    for name, n in kills:
        assert_killed(environ, name, n)
    assert_made_whole(environ, capsys)


@pytest.mark.parametrize(("name", "n"), JOINS)
def test_a_run_killed_while_it_joins_old_lines_is_made_whole_by_the_next(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], name: str, n: int
) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    assert migrate(environ) == 0
    assert_killed(environ, name, n)
    assert all("its ledger lists other windows" in difference for difference in differences(environ))
    workplace.populate(NEW_ROWS, first=ROWS + 1, seed=2)
    assert_made_whole(environ, capsys)
    assert manifest(environ)["bytes"].null_count() == 0, "bytes are only in the manifest"
