"""The disk estimate: enough for a load, and only for what is left to do."""

import pytest

from tests.completeness import faults_of
from tests.migrate.test_preflight import MB, ROWS, have_free
from tests.workplace import Workplace, log_events, migrate, shard_files

DATA = {
    "no index": ("k TEXT, a TEXT", "'key' || i, 'some text of a row, numbered ' || i", ""),
    "two indexes": ("k TEXT, a TEXT", "'key' || i, 'some text of a row, numbered ' || i", "k,a"),
    "numbers": ("k INTEGER, a REAL", "i * 77, i / 3.0", "k"),
    "large rows": ("k TEXT, a BLOB", "'key' || i, zeroblob(i % 3000)", ""),
    "sparse rowids": ("id INTEGER PRIMARY KEY, k TEXT", "i * 1000003, 'key' || i", "k"),
}


@pytest.mark.parametrize(("columns", "cells", "indexed"), DATA.values(), ids=DATA.keys())
def test_the_estimate_is_enough_and_not_twice_what_a_load_takes(
    workplace: Workplace, columns: str, cells: str, indexed: str
) -> None:
    rows = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT {cells} FROM n"
    workplace.script(f"CREATE TABLE clients ({columns})", f"INSERT INTO clients {rows}")
    environ = workplace.environ(INDEX_COLUMNS=indexed, BATCH_SIZE=6000)
    assert migrate(environ) == 0
    (room,) = log_events(workplace, "room")
    taken = sum(path.stat().st_size for path in shard_files(environ))
    assert taken <= room["rows"] + room["indexes"] <= 2 * taken


def test_only_what_is_left_to_do_needs_disk(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k", BATCH_SIZE=6000)
    assert migrate(environ) == 0
    have_free(monkeypatch, 1 * MB)  # a third of what the whole takes
    assert migrate(environ) == 0
    workplace.populate(500, first=ROWS + 1)
    assert migrate(environ) == 0
    assert migrate(environ | {"INDEX_COLUMNS": "k,INN"}) == 0
    first, more, index = log_events(workplace, "room")
    assert more["rows"] < first["rows"] / 20
    assert index["rows"] == 0
    assert 0 < index["indexes"] < first["indexes"]
    assert faults_of(environ) == []


def test_a_lost_shard_needs_disk_only_for_itself(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(BATCH_SIZE=6000)
    assert migrate(environ) == 0
    shard_files(environ)[1].unlink()
    assert migrate(environ) == 0
    first, one = log_events(workplace, "room")
    assert first["rows"] / 6 < one["rows"] < first["rows"] / 2
