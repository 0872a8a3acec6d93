"""Any history of columns, indexes, rows and kills: after it the shards have the source's rows and schema."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from etl.migrate.command import run
from etl.migrate.refresh import Refresh
from etl.shards.shard import Shard
from tests.completeness import faults_of
from tests.workplace import Workplace, migrate, shard_files

KILLED = ("add_columns", "fill_columns", "drop", "finish")
steps = st.one_of(
    st.tuples(st.just("column"), st.sampled_from(["TEXT", "INT DEFAULT 5", "NOT NULL DEFAULT 'x'", "AS (k || 'g')"])),
    st.tuples(st.just("index"), st.integers(0, 2)),
    st.tuples(st.just("drop"), st.integers(0, 2)),
    st.tuples(st.just("insert"), st.integers(1, 9)),
    st.tuples(st.just("update"), st.integers(2, 4)),
    st.tuples(st.just("run"), st.none()),
    st.tuples(st.just("kill"), st.tuples(st.sampled_from(KILLED), st.integers(0, 3))),
)


class Killed(BaseException):
    """Ends a run as a kill does: nothing that is not committed stays."""


def killed(environ: dict[str, str], function: str, passes: int) -> None:
    real, left = getattr(Shard, function), [passes]

    def stand_in(*args: object, **options: object) -> object:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return real(*args, **options)

    setattr(Shard, function, stand_in)
    try:
        run(environ, evolve=True)
    finally:
        setattr(Shard, function, real)


def schema(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as database:
        texts = "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = 'clients' ORDER BY name"
        return [database.execute(query).fetchall() for query in (texts, "PRAGMA table_xinfo(clients)")]


def apply(place: Workplace, environ: dict[str, str], *, number: int, kind: str, value: object) -> None:
    """One step of a history; steps that the source itself refuses do nothing."""
    with closing(sqlite3.connect(place.source)) as database, database:
        names = [name for (_, name, *_) in database.execute("PRAGMA table_info(clients)")]
        if kind == "column":
            database.execute(f"ALTER TABLE clients ADD COLUMN [c {number}] {value}")
        elif kind in {"index", "drop"}:
            database.execute(f"DROP INDEX IF EXISTS i{value}")
        if kind == "index":
            database.execute(f"CREATE INDEX i{value} ON clients ([{names[-1]}], k)")
        elif kind == "insert":
            database.executemany(
                "INSERT INTO clients (k) VALUES (?)", [(f"{number} {i}",) for i in range(int(str(value)))]
            )
        elif kind == "update":
            database.execute(
                f"UPDATE clients SET [{names[-1]}] = rowid WHERE [{names[-1]}] IS NOT k AND rowid % {value} = 0"
            )
    if kind == "run":
        migrate(environ)
    elif kind == "kill":
        function, passes = value if isinstance(value, tuple) else ("", 0)
        killed(environ, function, passes)


@settings(max_examples=8)
@given(st.lists(steps, min_size=2, max_size=8))
def test_after_any_history_shards_and_source_are_equal(history: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Workplace(Path(directory))
        place.script(
            "CREATE TABLE clients (k TEXT, v INT)",
            "CREATE INDEX by_key ON clients (k)",
            "INSERT INTO clients (k) VALUES ('a'), ('b'), ('c'), (NULL)",
        )
        environ = place.environ(NUM_SHARDS=2, RESERVED_SHARD=2)
        assert migrate(environ) == 0
        for number, (kind, value) in enumerate(history):
            apply(place, environ, number=number, kind=kind, value=value)
        assert run(environ, evolve=True, refresh=Refresh()) == 0
        assert faults_of(environ) == []
        assert [schema(path) for path in shard_files(environ)] == [schema(place.source)] * 3
