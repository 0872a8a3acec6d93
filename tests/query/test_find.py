"""etl.find says in which shards rows with a value are: compared with sqlite3 on the source."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import etl
from etl.core.errors import EtlError, Refused
from tests.cells import Cell, RawText, cells
from tests.oracle import expected_shard, quoted
from tests.tables import Table, build, tables
from tests.workplace import Workplace, migrate, shard_files, snapshot

SHARDS = 5


def shards_of(place: Workplace, table: str, key_name: str, column: str, value: Cell) -> list[int]:
    """What sqlite3 finds in the source, by the shard of each row's key."""
    key = quoted(key_name)
    with closing(sqlite3.connect(place.source)) as database:
        database.text_factory = bytes
        found = database.execute(
            f"SELECT CASE typeof({key}) WHEN 'blob' THEN {key} ELSE CAST({key} AS TEXT) END "
            f"FROM {quoted(table)} WHERE {quoted(column)} IS ?",
            (value,),
        ).fetchall()
    return sorted({expected_shard(data, num_shards=SHARDS, reserved_shard=SHARDS) for (data,) in found})


def stored(place: Workplace, table: Table, column: str) -> list[Cell]:
    """The column's cells, and other spellings of them."""
    with closing(sqlite3.connect(place.source)) as database:
        database.text_factory = lambda data: data.decode(errors="ignore")
        values = [value for (value,) in database.execute(f"SELECT {quoted(column)} FROM {quoted(table.name)}")]
    numbers = [value for value in values if isinstance(value, int | float)]
    return [*values, *map(str, numbers), *(f"{value}.0" for value in numbers), *map(float, numbers)]


@settings(max_examples=20)
@given(table=tables(), data=st.data())
def test_a_value_is_found_where_sqlite_finds_it(*, table: Table, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Workplace(Path(directory))
        build(table, place.source)
        note(table.ddl)
        environ = place.environ(TABLE_NAME=table.name, SHARD_KEY=table.key, NUM_SHARDS=SHARDS, RESERVED_SHARD=SHARDS)
        assert migrate(environ) == 0
        for column in {table.key, data.draw(st.sampled_from(table.columns)).name}:
            known = stored(place, table, column)
            anything = cells.filter(lambda value: not isinstance(value, RawText))
            for value in data.draw(st.lists(st.sampled_from(known) | anything if known else anything, max_size=8)):
                note(f"{column!r} {value!r}")
                names: dict[str, Any] = {column: value}
                assert etl.find(shard_dir=place.shards, **names) == shards_of(
                    place, table.name, table.key, column, value
                )


@pytest.mark.parametrize(
    ("declared", "value"),
    [("k ANY) STRICT", 7), ("k REAL)", 7), ("k NUMERIC)", "7.0"), ("k)", 7), ("k TEXT COLLATE NOCASE)", "ab")],
)
def test_a_key_with_several_spellings_is_searched_in_every_shard(
    workplace: Workplace, declared: str, value: int | str
) -> None:
    cells = ", ".join(f"({cell})" for cell in ("7", "7.0", "'7'", "'7.0'", "'ab'", "'AB'"))
    workplace.script(f"CREATE TABLE clients ({declared}", f"INSERT OR IGNORE INTO clients VALUES {cells}")
    assert migrate(workplace.environ(NUM_SHARDS=SHARDS, RESERVED_SHARD=SHARDS)) == 0
    assert etl.find(shard_dir=workplace.shards, k=value) == shards_of(workplace, "clients", "k", "k", value)


def test_a_key_is_found_without_the_other_shards(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace.populate(100)
    environ = workplace.environ(NUM_SHARDS=SHARDS, RESERVED_SHARD=SHARDS)
    assert migrate(environ) == 0
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with closing(sqlite3.connect(workplace.source)) as database:
        key, inn = database.execute("SELECT k, INN FROM clients WHERE k IS NOT NULL LIMIT 1").fetchone()
    before = snapshot(workplace.shards.iterdir())
    own = etl.shard_of(key, num_shards=SHARDS, reserved_shard=SHARDS)
    assert etl.find(K=key) == etl.find(inn=inn, k=key) == [own]
    assert etl.find(k=key, INN="none") == []
    assert (etl.find(k=None), etl.find(amount=1.0)) == ([SHARDS], shards_of(workplace, "clients", "k", "amount", 1.0))
    assert snapshot(workplace.shards.iterdir()) == before, "nothing is written, no file is left"
    for path in shard_files(environ):
        if f"_shard_{own:02d}" not in path.name:
            path.unlink()
    assert etl.find(k=key) == [own]
    with pytest.raises(EtlError, match="found no file; run the migration again"):
        etl.find(INN=inn)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nope": 1}, r"find\(nope\): expected columns of clients: \['INN', 'amount', 'k', 'note'\]"),
        ({}, r"find\(\): expected columns of clients"),
        ({"k": 2**63}, "k=: expected None, UTF-8 text, bytes or a number of 64 bits, found int"),
        ({"k": "\ud800"}, "k=: expected None, UTF-8 text"),
        ({"k": Path("x")}, "found PosixPath"),
    ],
)
def test_what_no_row_can_have_is_refused(workplace: Workplace, values: dict[str, Any], message: str) -> None:
    workplace.populate(1)
    assert migrate(workplace.environ()) == 0
    with pytest.raises(Refused, match=message):
        etl.find(shard_dir=workplace.shards, **values)
