"""etl.scan_shards and etl.open_shard return what sqlite3 finds in the files, and read only the shards they need."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

import etl
from etl.core.errors import EtlError, Refused
from etl.core.routing import Key
from etl.query import scan
from etl.query.columns import VARIANT_DTYPE
from tests.specimens import EVERY_CELL, STRICT_CELLS
from tests.workplace import PATIENCE_SECONDS, REPOSITORY, Workplace, finished, migrate, shard_files, snapshot

c = pl.col
Row = tuple[object, ...]


def rows_of(paths: Iterable[Path], columns: str = "*", where: str = "1") -> list[Row]:
    """What sqlite3 finds, in the order of a scan; text as bytes, because it may not be valid UTF-8."""
    rows: list[Row] = []
    for path in paths:
        with closing(sqlite3.connect(path)) as database:
            database.text_factory = lambda data: ("text", data)
            rows += database.execute(f"SELECT {columns} FROM clients WHERE {where} ORDER BY rowid").fetchall()
    return rows


def cell(value: object) -> object:
    """A cell of the frame in the form that `rows_of` returns."""
    match value:
        case {"storage_class": "text", "bytes": data}:
            return ("text", data)
        case {"storage_class": "blob", "bytes": data}:
            return data
        case {"storage_class": "integer", "integer": number} | {"storage_class": "real", "real": number}:
            return number
        case str():
            return ("text", value.encode())
    return value


def scanned(frame: pl.LazyFrame) -> list[Row]:
    return [tuple(cell(value) for value in row) for row in frame.collect().rows()]


def typed(value: dict[str, object] | None) -> Row:
    """A cell of a mixed column as `typeof` and value; text as bytes."""
    if value is None:
        return ("text", b"null"), None
    storage_class = str(value["storage_class"])
    return ("text", storage_class.encode()), value["bytes" if storage_class in ("text", "blob") else storage_class]


@pytest.fixture
def clients(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """Shards whose rows are read in many splits."""
    monkeypatch.setattr(scan, "_SPLIT_CELLS", 2_000)
    workplace.populate(3000)
    assert migrate(workplace.environ()) == 0
    return workplace


@pytest.mark.parametrize("statements", [EVERY_CELL, STRICT_CELLS], ids=["every cell in every type", "STRICT"])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_a_scan_returns_every_cell_as_the_shards_store_it(
    workplace: Workplace, statements: tuple[str, ...], encoding: str
) -> None:
    workplace.script(f"PRAGMA encoding = '{encoding}'", *statements)
    assert migrate(workplace.environ()) == 0
    names = etl.scan_shards(workplace.shards).collect_schema().names()
    raw = [f"typeof({name}), iif(typeof({name}) = 'text', CAST({name} AS BLOB), {name})" for name in names]
    expected = rows_of(shard_files(workplace.environ()), ", ".join(raw))
    frame = etl.scan_shards(workplace.shards, mixed=names).collect()
    assert [tuple(part for value in row for part in typed(value)) for row in frame.rows()] == expected


def test_columns_have_the_dtypes_of_their_storage_classes(workplace: Workplace) -> None:
    workplace.script(
        "CREATE TABLE clients (k TEXT, i INTEGER PRIMARY KEY, r REAL, d DATE, n NUMERIC, b BLOB, x INT, g AS (i + 1))",
        "INSERT INTO clients VALUES ('a', 1, 1, '2020-01-01', 1.5, x'00', 1)",
        "INSERT INTO clients VALUES ('a', 2, 1, '2020-01-02', 2, x'01', 'text')",
    )
    assert migrate(workplace.environ()) == 0
    frame = etl.scan_shards(workplace.shards)
    assert frame.collect_schema() == {
        "k": pl.String,
        "i": pl.Int64,
        "r": pl.Float64,
        "d": pl.String,
        "n": pl.Float64,
        "b": pl.Binary,
        "x": VARIANT_DTYPE,
        "g": pl.Int64,
    }
    assert frame.select("i", "n", "g").collect().rows() == [(1, 1.5, 2), (2, 2.0, 3)]
    assert scanned(frame.select("x")) == [(1,), (("text", b"text"),)]


def test_text_of_a_utf_16_file_is_returned_as_bytes(workplace: Workplace) -> None:
    broken = "CAST(x'00d86100' AS TEXT)"  # half of a surrogate pair, which UTF-8 cannot encode
    workplace.script(
        "PRAGMA encoding = 'UTF-16le'", "CREATE TABLE clients (k TEXT)", f"INSERT INTO clients VALUES ({broken})"
    )
    assert migrate(workplace.environ()) == 0
    assert etl.scan_shards(workplace.shards).collect()["k"].to_list() == [
        {"storage_class": "text", "integer": None, "real": None, "bytes": _stored(workplace)}
    ]


def _stored(place: Workplace) -> object:
    (row,) = rows_of(shard_files(place.environ()), "CAST(k AS BLOB)")
    return row[0]


def test_an_integer_after_a_sample_of_reals_is_not_rounded(workplace: Workplace) -> None:
    workplace.script(
        "CREATE TABLE clients (k TEXT, n)",
        "WITH RECURSIVE row(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM row WHERE i < 2000) "
        "INSERT INTO clients SELECT 'a', 0.5 FROM row",
    )
    environ = workplace.environ(NUM_SHARDS=1, RESERVED_SHARD=1)
    assert migrate(environ) == 0
    assert etl.scan_shards(workplace.shards).collect_schema()["n"] == pl.Float64
    workplace.script("INSERT INTO clients VALUES ('a', 9007199254740993)")
    assert migrate(environ) == 0
    with pytest.raises(EtlError, match="column n: expected cells that fit Float64"):
        etl.scan_shards(workplace.shards).collect()
    assert (9007199254740993,) in scanned(etl.scan_shards(workplace.shards, mixed=["n"]).select("n"))


def test_an_integer_that_no_real_holds_is_not_rounded(workplace: Workplace) -> None:
    workplace.script(
        "CREATE TABLE clients (k TEXT, n NUMERIC)",
        "INSERT INTO clients VALUES ('a', 0.5), ('a', 9007199254740992)",
    )
    assert migrate(workplace.environ()) == 0
    assert etl.scan_shards(workplace.shards).collect()["n"].to_list() == [0.5, 9007199254740992.0]
    workplace.script("INSERT INTO clients VALUES ('a', 9007199254740993)")
    assert migrate(workplace.environ()) == 0
    with pytest.raises(EtlError, match="column n: expected cells that fit Float64"):
        etl.scan_shards(workplace.shards).collect()
    assert (9007199254740993,) in scanned(etl.scan_shards(workplace.shards, mixed=["n"]).select("n"))


def test_a_scan_of_clients_equals_the_files(clients: Workplace) -> None:
    before = snapshot(shard_files(clients.environ()))
    assert scanned(etl.scan_shards(clients.shards)) == rows_of(shard_files(clients.environ()))
    assert snapshot(shard_files(clients.environ())) == before
    frame = etl.scan_shards(clients.shards)
    assert not [*clients.shards.glob("*.db-*")], "SQLite's -wal and -shm"
    assert frame.head(5).collect().height == 5
    deadline = time.monotonic() + PATIENCE_SECONDS
    while [*clients.shards.glob("*.db-*")] and time.monotonic() < deadline:
        time.sleep(0.01)  # the read that was begun ahead ends
    assert not [*clients.shards.glob("*.db-*")]


def test_a_scan_leaves_the_wal_of_a_program_that_writes(clients: Workplace) -> None:
    path = shard_files(clients.environ())[0]
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO clients (note) VALUES ('first')")
        database.commit()
        assert etl.scan_shards(clients.shards).collect().height == 3001
        assert path.with_name(f"{path.name}-wal").stat().st_size > 0
        database.execute("INSERT INTO clients (note) VALUES ('second')")
        database.commit()
        assert etl.scan_shards(clients.shards).collect().height == 3002
    assert not [*clients.shards.glob("*.db-*")]
    write = "d = sqlite3.connect(sys.argv[1]); d.execute('INSERT INTO clients (note) VALUES (3)'); d.commit()"
    died = f"import os, sqlite3, sys; {write}; os._exit(0)"
    subprocess.run([sys.executable, "-c", died, str(path)], check=True)
    before = snapshot(clients.shards.glob("*.db-wal"))
    assert etl.scan_shards(clients.shards).collect().height == 3003
    assert len(before) == 1
    assert snapshot(clients.shards.glob("*.db-wal")) == before, "the last commit of a program that died"


def damage_last_shard(place: Workplace) -> None:
    """Writes a note that is not valid UTF-8 into the last shard, so that reading it fails."""
    with closing(sqlite3.connect(shard_files(place.environ())[-1])) as database, database:
        database.execute("UPDATE clients SET note = CAST(x'ff' AS TEXT) WHERE rowid = (SELECT max(rowid) FROM clients)")


def test_only_what_the_query_needs_is_read(clients: Workplace) -> None:
    damage_last_shard(clients)
    frame = etl.scan_shards(clients.shards)
    with pytest.raises(EtlError, match=r"column note: expected cells that fit String.*scan with mixed=\['note'\]"):
        frame.collect()
    assert frame.select("amount").collect().height == 3000, "columns"
    assert frame.head(5).collect().height == 5, "a limit"
    assert frame.filter(c("k").is_not_null()).collect().height < 3000, "predicates"
    assert etl.scan_shards(clients.shards, shards=[0, 1]).collect().height > 0, "shards"
    assert etl.scan_shards(clients.shards, mixed=["note"]).collect().height == 3000


def test_a_key_reads_only_its_own_shard(clients: Workplace) -> None:
    files = shard_files(clients.environ())
    key = str(etl.scan_shards(clients.shards, shards=[1]).filter(c("k").is_not_null()).collect()["k"][5])
    lost = [path for path in files if "_shard_01" not in path.name]
    for path in lost:
        path.unlink()
    where = f"k = '{key}'"
    assert scanned(etl.scan_shards(clients.shards, key=key)) == rows_of([files[1]], where=where)
    with closing(etl.open_shard(key, shard_dir=clients.shards)) as database:
        assert database.execute(f"SELECT count(*) FROM clients WHERE {where}").fetchone() == (1,)
    with pytest.raises(EtlError, match=r"_shard_00\.db: expected shard 0 of 4, found no file; run the migration again"):
        etl.scan_shards(clients.shards)
    with pytest.raises(EtlError, match=r"_shard_03\.db: expected shard 3 of 4, found no file"):
        etl.open_shard(None, shard_dir=clients.shards)


def test_an_empty_key_returns_the_rows_without_a_key(workplace: Workplace) -> None:
    workplace.script("CREATE TABLE clients (k TEXT)", "INSERT INTO clients VALUES (NULL), (''), (' \u2003'), ('a')")
    assert migrate(workplace.environ(RESERVED_SHARD=0, NUM_SHARDS=1)) == 0
    assert etl.scan_shards(workplace.shards, key=" ").collect()["k"].to_list() == [None, "", " \u2003"]


@pytest.mark.parametrize("name", ["*", "^.*$"])
def test_a_key_column_may_have_a_name_that_polars_takes_for_a_pattern(workplace: Workplace, name: str) -> None:
    workplace.script(f'CREATE TABLE clients (a, "{name}" TEXT)', "INSERT INTO clients VALUES ('b', 'a'), ('a', 'b')")
    assert migrate(workplace.environ(SHARD_KEY=name)) == 0
    assert etl.scan_shards(workplace.shards, key="a").collect().rows() == [("b", "a")]


@pytest.mark.parametrize(("declared", "key"), [("INTEGER", 7), ("INTEGER", "7"), ("REAL", 0.5), ("BLOB", b"\xff")])
def test_a_key_may_have_any_type(workplace: Workplace, declared: str, key: Key) -> None:
    workplace.script(
        f"CREATE TABLE clients (k {declared})", "INSERT INTO clients VALUES (7), (0.5), (x'ff'), (8), (NULL)"
    )
    workplace.script(f"DELETE FROM clients WHERE typeof(k) NOT IN ('null', '{declared.lower()}')")
    assert migrate(workplace.environ()) == 0
    expected = int(key) if isinstance(key, str) else key
    assert etl.scan_shards(workplace.shards, key=key).collect()["k"].to_list() == [expected]
    with pytest.raises(Refused, match="key=: expected a key of the column k's own kind"):
        etl.scan_shards(workplace.shards, key="seven" if declared != "BLOB" else " ")


def test_windows_of_a_running_migration_are_left_out_and_rows_of_an_application_are_not(clients: Workplace) -> None:
    files = shard_files(clients.environ())
    with closing(sqlite3.connect(files[0])) as database, database:
        database.execute("INSERT INTO _etl_windows VALUES (3001, 3100, 1, 'a run', '2020-01-01T00:00:00+00:00')")
        database.execute(
            "INSERT INTO clients (rowid, note) VALUES (3001, 'of the window'), (5000, 'of the application')"
        )
    assert etl.scan_shards(clients.shards).collect().height == 3001
    added = c("note").is_in(["of the window", "of the application"])
    assert etl.scan_shards(clients.shards).filter(added).collect()["note"].to_list() == ["of the application"]
    assert etl.scan_shards(clients.shards, shards=[0]).filter(added).collect().height == 2


def commit_window(place: Workplace, *, first: int) -> None:
    """Adds a row and a ledger line to every shard, as a migration does."""
    for slot, path in enumerate(shard_files(place.environ())):
        with closing(sqlite3.connect(path)) as database, database:
            line = (first, first + 99, 1, "a run", "2020-01-01T00:00:00+00:00")
            database.execute("INSERT INTO _etl_windows VALUES (?, ?, ?, ?, ?)", line)
            database.execute("INSERT INTO clients (rowid, note) VALUES (?, 'new')", (first + slot,))


def test_windows_committed_during_a_scan_appear_in_the_next_scan(
    clients: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = threading.Lock()
    committed: list[bool] = []

    def commit_first() -> None:
        with turn:
            if not committed:
                commit_window(clients, first=3001)
                committed.append(True)

    monkeypatch.setattr("etl.sqlite.connectorx._CALLS", SimpleNamespace(wait=commit_first))
    frame = etl.scan_shards(clients.shards)
    assert [frame.collect().height for _ in range(2)] == [3000, 3004]


def test_scans_during_a_migration_never_fail(workplace: Workplace) -> None:
    workplace.populate(3000)
    environ = workplace.environ()
    assert migrate(environ) == 0
    workplace.populate(60_000, first=3001, seed=8)
    heights = set()
    with workplace.start(environ) as process:
        while process.poll() is None:
            heights.add(etl.scan_shards(workplace.shards).select("amount").collect().height)
        assert finished(process).code == 0
    heights.add(etl.scan_shards(workplace.shards).select("amount").collect().height)
    assert {height % 100 for height in heights} == {0}, "whole windows"
    assert {3000, 63_000} <= heights


def unfinished(place: Workplace) -> None:
    with closing(sqlite3.connect(shard_files(place.environ())[2])) as database:
        database.execute("PRAGMA journal_mode = TRUNCATE")


def of_another_set(place: Workplace) -> None:
    with closing(sqlite3.connect(shard_files(place.environ())[2])) as database, database:
        database.execute("UPDATE _etl_identity SET shard_key = 'INN'")


def of_a_later_format(place: Workplace) -> None:
    for path in shard_files(place.environ()):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE _etl_identity SET format_version = 3")


def without_identity(place: Workplace) -> None:
    for path in shard_files(place.environ()):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("DROP TABLE _etl_identity")


def overwritten(place: Workplace) -> None:
    for path in shard_files(place.environ()):
        path.write_bytes(b"noise" * 5000)


def all_missing(place: Workplace) -> None:
    for path in shard_files(place.environ()):
        path.unlink()


def of_two_tables(place: Workplace) -> None:
    first = shard_files(place.environ())[0]
    first.with_name("orders_shard_00.db").write_bytes(first.read_bytes())


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (unfinished, "_shard_02.db: this shard is not finished; let the migration end"),
        (of_another_set, "_shard_02.db: expected shard 2 of table clients, found a shard of another set"),
        (of_a_later_format, "expected a shard of format 2 at most, found format 3"),
        (without_identity, "expected a shard, found another database"),
        (overwritten, "expected a shard, found no database"),
        (all_missing, "expected shards, found none"),
        (of_two_tables, r"shards of several tables \(clients, orders\); say which with table="),
    ],
)
def test_shards_that_are_not_a_finished_set_are_refused_in_one_line(
    clients: Workplace, harm: Callable[[Workplace], None], message: str
) -> None:
    harm(clients)
    with pytest.raises(EtlError, match=message) as caught:
        etl.scan_shards(clients.shards)
    assert "\n" not in str(caught.value)


def test_an_unknown_shard_or_column_is_refused(clients: Workplace) -> None:
    with pytest.raises(Refused, match=r"shard 9: expected one of 0, 1 … 3"):
        etl.scan_shards(clients.shards, shards=[9])
    with pytest.raises(Refused, match=r"mixed=\['nope'\]: expected columns of clients"):
        etl.scan_shards(clients.shards, mixed=["nope"])


def test_open_shard_can_read_but_not_write(clients: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in clients.environ().items():
        monkeypatch.setenv(name, value)
    with closing(etl.open_shard(" ")) as database:
        assert database.execute("SELECT shard FROM _etl_identity").fetchone() == (3,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            database.execute("DELETE FROM clients")


def test_shard_of_does_not_import_polars() -> None:
    code = "import sys, etl; etl.shard_of('7'); etl.open_shard; assert 'polars' not in sys.modules, 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
    with pytest.raises(AttributeError, match="nope"):
        etl.nope  # noqa: B018 - the access is what fails
