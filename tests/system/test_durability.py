"""What is committed to a shard is on the disk: each statement that writes runs with PRAGMA synchronous = FULL."""

from typing import Any

import pytest

from etl.sqlite.adbc import Connection
from tests.verifier import Verifier
from tests.workplace import Workplace, migrate

FULL = 2


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """The levels of `synchronous` that each kind of statement ran with."""
    found: dict[str, set[int]] = {}
    execute = Connection.execute

    def recorded(self: Connection, statement: str) -> list[tuple[Any, ...]]:
        kind = statement.split(maxsplit=1)[0]
        if kind not in {"SELECT", "PRAGMA"}:
            ((level,),) = execute(self, "PRAGMA synchronous")
            found.setdefault(kind, set()).add(level)
        return execute(self, statement)

    monkeypatch.setattr(Connection, "execute", recorded)
    return found


def test_every_commit_of_a_load_an_increment_and_a_repair_waits_for_the_disk(
    workplace: Workplace, levels: dict[str, set[int]], verify: Verifier
) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    for first in (1, 1001):
        workplace.populate(1000, first=first, seed=first)
        assert migrate(environ) == 0
    workplace.script("UPDATE clients SET note = 'changed' WHERE rowid = 7")
    assert verify(environ, repair=True)["outcome"] == "equal"
    assert {"BEGIN", "COMMIT", "CREATE"} <= levels.keys()
    assert levels == {kind: {FULL} for kind in levels}
