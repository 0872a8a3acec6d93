"""No cell leaves the shard files, whatever happens; and what is ours only its owner can read."""

import os
import random
import signal
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from tests.faults import struck
from tests.workplace import Outcome, Workplace, migrate, shard_files

MARKER = "Zxq7secret"
DDL = "CREATE TABLE IF NOT EXISTS clients (k TEXT, i INTEGER, r REAL, d DATE, n NUMERIC, u, b BLOB, t TEXT UNIQUE)"
INSERT = "INSERT INTO clients SELECT {m} || i % 9, {m}, {m}, {m}, {m}, {m}, CAST({m} AS BLOB), {m} || i FROM ({rows})"
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n"
NO_LIMIT = ("sh", "-c", 'umask 022; exec "$@"', "sh")
SMALL_FILES = ("sh", "-c", 'umask 022; ulimit -f 256; exec "$@"', "sh")


def fill(place: Workplace, *, first: int, last: int) -> None:
    rows = NUMBERS.format(first=first, last=last)
    place.script(DDL, INSERT.format(m=f"'{MARKER}'", rows=rows))


def traces(place: Workplace, *outcomes: Outcome) -> list[str]:
    """Where the marker is found outside the source and the shards."""
    databases = {place.source, *place.shards.glob("*_shard_*.db*")}
    files = [path for path in place.root.rglob("*") if path.is_file() and path not in databases]
    assert any(path.suffix == ".log" for path in files)
    found = [path.name for path in files if MARKER.encode() in path.read_bytes()]
    found += [
        path.name for path in files if path.suffix == ".parquet" and MARKER in str(pl.read_parquet(path).to_dicts())
    ]
    found += [path.name for path in files if MARKER in path.name]
    return found + [text for outcome in outcomes for text in (outcome.out, outcome.err) if MARKER in text]


def poison(place: Workplace) -> None:
    """Make each shard refuse its next row."""
    for path in shard_files(place.environ()):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(
                "CREATE TRIGGER poison BEFORE INSERT ON clients BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
            )


def collide(place: Workplace) -> None:
    """Put into each shard, under other rowids, the values that are UNIQUE and come next."""
    for path in shard_files(place.environ()):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"INSERT INTO clients (rowid, t) SELECT i * 1000000, '{MARKER}' || i FROM ({NEXT})")


def garble(place: Workplace) -> None:
    for path in shard_files(place.environ()):
        path.write_bytes(b"noise" * 5000)


def replace(place: Workplace) -> None:
    """Other rows under the same rowids."""
    place.script(
        f"UPDATE clients SET k = '{MARKER} other' || rowid, t = '{MARKER}' || -rowid, i = 1, r = 2, d = 3, n = 4"
    )


def cut(place: Workplace) -> None:
    os.truncate(place.source, place.source.stat().st_size * 3 // 4)


def damage(place: Workplace) -> None:
    """Some byte of each of the source's pages but the first few."""
    data, dice = bytearray(place.source.read_bytes()), random.Random(3)
    for page in range(5, len(data) // 4096):
        data[page * 4096 + dice.randrange(4096)] ^= 0x55
    place.source.write_bytes(data)


def block(place: Workplace) -> None:
    (place.shards / "manifest").rename(place.root / "manifest")
    (place.shards / "manifest").write_text("in the way")


NEXT = NUMBERS.format(first=2001, last=4000)
FAILURES: dict[str, tuple[Callable[[Workplace], None], int]] = {
    "a trigger": (poison, 2),
    "a collision": (collide, 1),
    "noise": (garble, 2),
    "another source": (replace, 2),
    "a source cut short": (cut, 2),
    "a damaged source": (damage, 2),
    "no place for the manifest": (block, 1),
}


def test_a_good_run_tells_no_cell(workplace: Workplace) -> None:
    fill(workplace, first=1, last=2000)
    outcome = workplace.command(workplace.environ(INDEX_COLUMNS="k,t"))
    assert outcome.code == 0, outcome.err
    assert traces(workplace, outcome) == []


@pytest.mark.parametrize(("harm", "code"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_run_tells_no_cell(workplace: Workplace, harm: Callable[[Workplace], None], code: int) -> None:
    fill(workplace, first=1, last=2000)
    good = workplace.command(workplace.environ())
    assert good.code == 0, good.err
    fill(workplace, first=2001, last=4000)
    harm(workplace)
    bad = workplace.command(workplace.environ())
    assert bad.code == code, bad.err
    assert traces(workplace, good, bad) == []
    assert "Traceback" not in bad.out + bad.err


def test_a_full_disk_tells_no_cell_and_the_next_run_finishes(workplace: Workplace) -> None:
    fill(workplace, first=1, last=20_000)
    full = workplace.command(workplace.environ(), *SMALL_FILES)
    assert full.code == 1, full.err
    assert "Traceback" not in full.out + full.err
    assert traces(workplace, full) == []
    assert workplace.command(workplace.environ()).code == 0


def test_files_are_for_their_owner_only(workplace: Workplace) -> None:
    fill(workplace, first=1, last=2000)
    before = {workplace.root, workplace.source}
    environ = workplace.environ(SHARD_DIR=workplace.shards / "deep", LOG_DIR=workplace.logs / "deep")
    assert workplace.command(environ, *NO_LIMIT).code == 0
    made = [path for path in workplace.root.rglob("*") if path not in before and path.name != "empty"]
    modes = {str(path): oct(stat.S_IMODE(path.stat().st_mode)) for path in made}
    assert len(modes) > 8
    assert modes == {name: "0o700" if Path(name).is_dir() else "0o600" for name in modes}


@pytest.mark.parametrize(
    ("point", "n"),
    [("before a commit", 2), ("before a manifest file's name", 1), ("after a shard has turned to WAL", 1)],
)
def test_files_of_a_killed_run_tell_no_cell_and_are_for_their_owner_only(
    workplace: Workplace, point: str, n: int
) -> None:
    fill(workplace, first=1, last=2000)
    environ = workplace.environ(INDEX_COLUMNS="k,t")
    assert struck(environ, point, n).code == -signal.SIGKILL
    assert traces(workplace) == []
    made = [path for path in workplace.root.rglob("*") if path != workplace.source]
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == {"0o700", "0o600"}
    assert migrate(environ) == 0
    assert traces(workplace) == []
