"""A checker that cannot fail is a defect: every way to spoil a correct set of shards is seen."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.oracle import compare, expected_shard, shard_name

DDL = (
    'CREATE TABLE clients (key, note TEXT, amount REAL, "a b", twice AS (note || note))',
    "CREATE TABLE _etl_identity (source TEXT)",
    "CREATE TABLE _etl_windows (first_rowid INTEGER, last_rowid INTEGER, rows INTEGER, run_id TEXT, committed_at TEXT)",
)
KEYS: tuple[object, ...] = (*"abcdefgh", None, "", " \t\u3000", b"", b" ", 7, 0.5, "\x1c", "пять")
ROWS: list[tuple[object, ...]] = [(rowid, key, "note", 0.5, b"x") for rowid, key in enumerate(KEYS, start=1)]
ROWS += [
    (100, "zero", "", 0.0, -0.0),
    (101, "one", "1", 1.0, 1),
    (102, "null", None, None, None),
    (103, "text", "x", 2.5, "x"),
]
WINDOWS = ((1, 10), (11, 60), (90, 110))


def spoil(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def every(*statements: str) -> Callable[[Path], None]:
    """Run the statements in every shard; a WHERE picks the row to spoil."""

    def apply(place: Path) -> None:
        for path in (place / "shards").glob("*.db"):
            spoil(path, *statements)

    return apply


def one(shard: int, *statements: str) -> Callable[[Path], None]:
    return lambda place: spoil(place / "shards" / shard_name("clients", shard), *statements)


def misplace(place: Path) -> None:
    """Move the row of key "a" to the next shard, its count in the ledger too."""
    home = expected_shard(b"a", num_shards=3, reserved_shard=3)
    spoil(place / "shards" / shard_name("clients", home), "DELETE FROM clients WHERE key = 'a'", LEDGER.format("- 1"))
    away = place / "shards" / shard_name("clients", (home + 1) % 3)
    spoil(away, f"{INSERT} VALUES (1, 'a', 'note', 0.5, x'78')", LEDGER.format("+ 1"))


def garble(place: Path) -> None:
    (place / "shards" / shard_name("clients", 1)).write_bytes(b"no database " * 400)


def remove(place: Path) -> None:
    (place / "shards" / shard_name("clients", 2)).unlink()


def add_file(place: Path) -> None:
    shutil.copy(place / "shards" / shard_name("clients", 2), place / "shards" / shard_name("clients", 9))


INSERT = 'INSERT INTO clients (rowid, key, note, amount, "a b")'
LEDGER = "UPDATE _etl_windows SET rows = rows {} WHERE first_rowid = 1"
SPOILED = {
    "a changed type": (every("UPDATE clients SET \"a b\" = '1' WHERE rowid = 101"), "row 101, column 'a b': type t"),
    "an integer for a real": (
        every('UPDATE clients SET "a b" = 1.0 WHERE rowid = 101'),
        "type r is not the source's i",
    ),
    "a blob for a text": (
        every("UPDATE clients SET \"a b\" = x'78' WHERE rowid = 103"),
        "type b is not the source's t",
    ),
    "NULL for the empty text": (
        every("UPDATE clients SET note = NULL WHERE rowid = 100"),
        "type n is not the source's t",
    ),
    "the empty text for NULL": (every("UPDATE clients SET note = '' WHERE rowid = 102"), "row 102, column 'note'"),
    "a trimmed text": (every("UPDATE clients SET key = 'a ' WHERE key = 'a'"), "row 1, column 'key'"),
    "swapped cells": (every("UPDATE clients SET key = note, note = key WHERE rowid = 2"), "row 2, column 'key'"),
    "a lost bit of a real": (
        every("UPDATE clients SET amount = 0.5000000000000001 WHERE rowid = 3"),
        "row 3, column 'amount'",
    ),
    "a lost sign of zero": (every('UPDATE clients SET "a b" = 0.0 WHERE rowid = 100'), "row 100, column 'a b'"),
    "a missing row": (every("DELETE FROM clients WHERE rowid = 4"), "row 4 is missing"),
    "a missing last row": (every("DELETE FROM clients WHERE rowid = 103"), "row 103 is missing"),
    "an extra row": (one(0, "INSERT INTO clients (rowid, key) VALUES (9999, 'a')"), "row 9999 should not be there"),
    "an extra row in between": (
        one(1, "INSERT INTO clients (rowid, key) VALUES (70, 'a')"),
        "row 70 should not be there",
    ),
    "another rowid": (every("UPDATE clients SET rowid = 50 WHERE rowid = 5"), "row 5 is missing"),
    "a misplaced row": (misplace, "row 1 should not be there"),
    "a wrong count in the ledger": (one(0, LEDGER.format("+ 1")), "window 1..10 says"),
    "a lost window in one shard": (one(1, "DELETE FROM _etl_windows WHERE first_rowid = 11"), "lists other windows"),
    "a lost window in all shards": (
        every("DELETE FROM _etl_windows WHERE first_rowid = 11"),
        "row 11 lies in no window",
    ),
    "a lost last window": (every("DELETE FROM _etl_windows WHERE first_rowid = 90"), "row 100 lies in no window"),
    "no windows": (every("DELETE FROM _etl_windows"), "row 1 lies in no window"),
    "overlapping windows": (every("UPDATE _etl_windows SET last_rowid = 11 WHERE first_rowid = 1"), "overlaps"),
    "no ledger": (one(2, "DROP TABLE _etl_windows"), "no such table: _etl_windows"),
    "no identity": (one(2, "DROP TABLE _etl_identity"), "no such table: _etl_identity"),
    "an empty identity": (one(2, "DELETE FROM _etl_identity"), "_etl_identity is empty"),
    "another user_version": (one(0, "PRAGMA user_version = 6"), "user_version"),
    "another application_id": (one(0, "PRAGMA application_id = 6"), "application_id"),
    "another CREATE TABLE": (one(0, "ALTER TABLE clients ADD COLUMN more"), "CREATE TABLE is"),
    "a file that is no database": (garble, "shard 1: file is not a database"),
    "a missing file": (remove, "shard 2 has no file"),
    "a file too many": (add_file, "belongs to no shard"),
}


def key_bytes(key: object) -> bytes | None:
    return key if key is None or isinstance(key, bytes) else str(key).encode()


@pytest.fixture(params=["UTF-8", "UTF-16le"])
def correct(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with source.db and a hand-made, correct set of shards 0, 1, 2 and reserved 3."""
    (tmp_path / "shards").mkdir()
    for shard in (None, 0, 1, 2, 3):
        path = tmp_path / ("source.db" if shard is None else f"shards/{shard_name('clients', shard)}")
        mine = [
            row for row in ROWS if shard in (None, expected_shard(key_bytes(row[1]), num_shards=3, reserved_shard=3))
        ]
        spoil(
            path,
            f"PRAGMA encoding = '{request.param}'",
            "PRAGMA user_version = 5",
            *(DDL[:1] if shard is None else DDL),
        )
        with closing(sqlite3.connect(path)) as database, database:
            database.executemany(f"{INSERT} VALUES (?, ?, ?, ?, ?)", mine)
            if shard is None:
                continue
            database.execute("INSERT INTO _etl_identity VALUES ('source.db')")
            for first, last in WINDOWS:
                rows = sum(isinstance(row[0], int) and first <= row[0] <= last for row in mine)
                database.execute("INSERT INTO _etl_windows VALUES (?, ?, ?, 'run', 'now')", (first, last, rows))
    return tmp_path


def found_in(place: Path) -> list[str]:
    return compare(place / "source.db", place / "shards", table="clients", key="key", num_shards=3, reserved_shard=3)


def test_a_correct_set_has_no_differences(correct: Path) -> None:
    assert found_in(correct) == []


@pytest.mark.parametrize(("corrupt", "report"), SPOILED.values(), ids=SPOILED.keys())
def test_every_spoiled_set_is_reported(correct: Path, corrupt: Callable[[Path], None], report: str) -> None:
    corrupt(correct)
    assert report in "\n".join(found_in(correct))


def test_another_encoding_is_reported(correct: Path) -> None:
    path = correct / "shards" / shard_name("clients", 0)
    path.unlink()
    spoil(path, "PRAGMA encoding = 'UTF-16be'", *DDL, "INSERT INTO _etl_identity VALUES ('source.db')")
    assert "shard 0: encoding is" in "\n".join(found_in(correct))


def test_a_long_list_of_differences_is_cut(correct: Path) -> None:
    with closing(sqlite3.connect(correct / "source.db")) as database, database:
        database.executemany(
            "INSERT INTO clients (rowid, key) VALUES (?, 'a')", ((rowid,) for rowid in range(1000, 2000))
        )
    assert len(found_in(correct)) == 40


@pytest.mark.parametrize(
    ("key", "shard"),
    [
        (None, 77),
        (b"", 77),
        (b" \t\r\n", 77),
        ("\x85\xa0\u2007\u2028\u3000".encode(), 77),
        (b"\x1c", int(hashlib.sha256(b"\x1c").hexdigest(), 16) % 10),
        ("\u200b".encode(), int(hashlib.sha256("\u200b".encode()).hexdigest(), 16) % 10),
        (b" \xff", int(hashlib.sha256(b" \xff").hexdigest(), 16) % 10),
        # SHA-256("abc") is the standard's own example: ba7816bf…f20015ad.
        (b"abc", 0xBA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD % 10),
        (b" abc", int(hashlib.sha256(b" abc").hexdigest(), 16) % 10),
    ],
)
def test_a_key_goes_where_the_contract_says(key: bytes | None, shard: int) -> None:
    assert expected_shard(key, num_shards=10, reserved_shard=77) == shard
