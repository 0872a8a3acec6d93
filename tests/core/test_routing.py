"""The routing contract: golden vectors, the scalar form against the vectorised one, reals as text, file names."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import shard_of
from etl.core import partition
from etl.core.model import ShardMap
from etl.core.routing import Key, real_text, shard_path
from tests.oracle import WHITE_SPACE, expected_shard
from tests.workplace import REPOSITORY, Workplace, migrate

COUNTS = (1, 2, 10, 4096)
# Made-up keys; `printf '%s' KEY | sha256sum`, taken as one number, modulo each of COUNTS.
GOLDEN: list[tuple[Key, tuple[int, int, int, int]]] = [
    ("golden-1", (0, 0, 6, 2974)),
    (b"golden-1", (0, 0, 6, 2974)),
    ("ключ", (0, 0, 0, 2238)),
    (" spaced ", (0, 0, 0, 3586)),
    ("a\0b", (0, 0, 2, 312)),
    ("42", (0, 1, 3, 73)),
    (42, (0, 1, 3, 73)),
    (-7, (0, 1, 5, 331)),
    (9223372036854775807, (0, 1, 3, 3369)),
    (0.5, (0, 0, 4, 3716)),
    (7.0, (0, 0, 2, 594)),
    (1e300, (0, 0, 0, 132)),
    (float("inf"), (0, 0, 6, 2520)),
    (b"\xff\xfe", (0, 1, 9, 521)),
    ("\x1c", (0, 0, 8, 24)),
    ("\u200b", (0, 0, 8, 840)),
]
NOT_BLANK = ["\x1c", "\x1d", "\x1e", "\x1f", "\u180e", "\u200b", "\u200c", "\u2060", "\ufeff", "\0", " \0", "\u200b "]
MIXED = [WHITE_SPACE, WHITE_SPACE[::-1], "\r\n", "\u3000 \t", " " * 300]
NOT_UTF8 = [b"\xff", b"\x20\xff", b"\xa0", b"\x85", b"\xe2\x80", b"\xe3\x80\x80\xe3\x80", b"\xed\xa0\x80", b"\xc0\xa0"]

pieces = st.sampled_from([*WHITE_SPACE, *NOT_BLANK, "ж", "\U0001f600"])
texts = st.lists(pieces, max_size=6).map("".join) | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
binaries = texts.map(str.encode) | st.binary(max_size=6) | st.lists(st.sampled_from(NOT_UTF8), max_size=3).map(b"".join)
integers = st.integers(-(2**63), 2**63 - 1)
reals = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 5e-324, 1e15, 1e16, 2.0**53, float("inf")])
shard_maps = st.builds(ShardMap, st.sampled_from([1, 2, 3, 7, 10, 255, 4095, 4096]), st.integers(0, 5000))


def vectorised(keys: pl.Series, shard_map: ShardMap) -> list[int]:
    """The number of each key's shard."""
    return [shard_map.shards[slot] for slot in partition.slots(keys, shard_map)]


def scalar(keys: list[Key], shard_map: ShardMap) -> list[int]:
    return [shard_of(key, num_shards=shard_map.num_shards, reserved_shard=shard_map.reserved_shard) for key in keys]


@pytest.mark.parametrize(("key", "shards"), GOLDEN)
def test_a_golden_key_goes_to_its_shard(key: Key, shards: tuple[int, ...]) -> None:
    assert tuple(shard_of(key, num_shards=count, reserved_shard=9999) for count in COUNTS) == shards


def test_the_golden_keys_go_to_their_shards_vectorised() -> None:
    texts = {key: shards for key, shards in GOLDEN if isinstance(key, str)}
    for count, expected in zip(COUNTS, zip(*texts.values(), strict=True), strict=True):
        assert tuple(vectorised(pl.Series(list(texts)), ShardMap(count, 9999))) == expected


def test_an_application_that_names_no_counts_gets_the_default_ones() -> None:
    assert [shard_of(key) for key in ("golden-1", "ключ", None, "")] == [6, 0, 10, 10]


@pytest.mark.parametrize("key", [None, "", b"", *WHITE_SPACE, *MIXED, *(text.encode() for text in WHITE_SPACE)])
def test_a_blank_key_goes_to_the_reserved_shard(key: str | bytes | None) -> None:
    shard_map = ShardMap(10, 77)
    keys = pl.Series([key], dtype=pl.Binary if isinstance(key, bytes) else pl.String)
    assert shard_of(key, reserved_shard=77) == 77
    assert vectorised(keys, shard_map) == [77]
    if key is not None:
        assert vectorised(keys.cast(pl.Binary), shard_map) == [77]


@pytest.mark.parametrize("key", [*(text.encode() for text in NOT_BLANK), *NOT_UTF8])
def test_a_key_that_only_looks_blank_is_hashed(key: bytes) -> None:
    hashed = expected_shard(key, num_shards=4096, reserved_shard=9999)
    assert hashed < 4096
    assert shard_of(key, num_shards=4096, reserved_shard=9999) == hashed
    assert vectorised(pl.Series([key]), ShardMap(4096, 9999)) == [hashed]


@given(keys=st.lists(st.none() | texts, max_size=20), shard_map=shard_maps)
def test_texts_go_where_the_scalar_form_says(keys: list[Key], shard_map: ShardMap) -> None:
    column = pl.Series(keys, dtype=pl.String)
    assert vectorised(column, shard_map) == scalar(keys, shard_map)
    assert vectorised(column.cast(pl.Binary), shard_map) == scalar(keys, shard_map)


@given(keys=st.lists(st.none() | binaries, max_size=20), shard_map=shard_maps)
def test_bytes_go_where_the_scalar_form_says(keys: list[Key], shard_map: ShardMap) -> None:
    assert vectorised(pl.Series(keys, dtype=pl.Binary), shard_map) == scalar(keys, shard_map)


@given(keys=st.lists(st.none() | integers, max_size=20), shard_map=shard_maps)
def test_integers_go_where_the_scalar_form_says(keys: list[Key], shard_map: ShardMap) -> None:
    column = partition.integer_keys(pl.Series(keys, dtype=pl.Int64))
    assert vectorised(column, shard_map) == scalar(keys, shard_map)


@given(keys=st.lists(st.none() | reals, max_size=20), shard_map=shard_maps)
def test_reals_go_where_the_scalar_form_says(keys: list[Key], shard_map: ShardMap) -> None:
    column = partition.real_keys(pl.Series(keys, dtype=pl.Float64))
    assert vectorised(column, shard_map) == scalar(keys, shard_map)


# What `SELECT CAST(? AS TEXT)` gives in SQLite 3.40.
AS_SQLITE = [
    *((0.5, "0.5"), (0.1, "0.1"), (1.0, "1.0"), (100.0, "100.0"), (-1234.5, "-1234.5"), (0.1 + 0.2, "0.3")),
    *((2 / 3, "0.666666666666667"), (0.0001, "0.0001"), (1e-5, "1.0e-05"), (1e14, "100000000000000.0")),
    *((123456789012345.0, "123456789012345.0"), (999999999999999.9, "1.0e+15"), (1e15, "1.0e+15")),
    *((1e16, "1.0e+16"), (1e100, "1.0e+100"), (2.0**53, "9.00719925474099e+15")),
    *((5e-324, "4.94065645841247e-324"), (1.7976931348623157e308, "1.79769313486232e+308")),
    *((0.0, "0.0"), (-0.0, "0.0"), (float("inf"), "Inf"), (-float("inf"), "-Inf"), (float("nan"), "")),
]


@pytest.mark.parametrize(("real", "text"), AS_SQLITE)
def test_a_real_is_spelled_as_sqlite_spelled_it(real: float, text: str) -> None:
    assert real_text(real) == text


@given(digits=st.integers(-(10**12), 10**12), places=st.integers(0, 4))
def test_a_decimal_number_is_spelled_as_any_sqlite_spells_it(digits: int, places: int) -> None:
    real = digits / 10**places
    with closing(sqlite3.connect(":memory:")) as database:
        assert database.execute("SELECT CAST(? AS TEXT)", (real,)).fetchone() == (real_text(real),)


@pytest.mark.parametrize(
    ("table", "shard", "name"),
    [
        ("clients", 0, "clients_shard_00.db"),
        ("clients", 10, "clients_shard_10.db"),
        ("clients", 123, "clients_shard_123.db"),
        ("clients", 4095, "clients_shard_4095.db"),
        ("a/b", 7, "a%2Fb_shard_07.db"),
        ("../up", 7, "..%2Fup_shard_07.db"),
        ("Клиенты 1%", 7, "Клиенты 1%_shard_07.db"),
    ],
)
def test_a_shard_has_its_file(table: str, shard: int, name: str) -> None:
    assert shard_path(Path("shards"), table, shard) == Path("shards") / name


def route(place: Path, *keys: str | bytes, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "etl.route", *keys],
        check=False,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_prints_index_and_file_of_each_key(tmp_path: Path) -> None:
    keys = ("golden-1", "", "\u3000", "ключ", b"\xff\xfe", "--", "-7")
    result = route(tmp_path, *keys, SHARD_DIR="/s", TABLE_NAME="a/b")
    assert result.stdout.splitlines() == [f"{n}\t/s/a%2Fb_shard_{n:02d}.db" for n in (6, 10, 10, 0, 9, 5)]
    assert result.returncode == 0
    assert result.stderr.startswith("warning: SHARD_DIR=/s: no shards of a/b yet; these are the shards of a run")


def test_the_command_reads_the_settings_of_a_run_made_here(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NUM_SHARDS=4096\nSHARD_DIR=here\n")
    assert route(tmp_path, "golden-1").stdout == "2974\there/clients_shard_2974.db\n"
    assert route(tmp_path, "golden-1", NUM_SHARDS="2").stdout == "0\there/clients_shard_00.db\n"


def test_the_command_goes_by_the_shards_where_there_are_some(workplace: Workplace) -> None:
    workplace.populate(10)
    environ = workplace.environ(NUM_SHARDS=5, RESERVED_SHARD=7)
    assert migrate(environ) == 0
    found = route(workplace.root, "golden-1", "", **environ | {"NUM_SHARDS": "4096", "RESERVED_SHARD": "4096"})
    assert [line.split("\t")[0] for line in found.stdout.splitlines()] == [
        str(shard_of("golden-1", num_shards=5, reserved_shard=7)),
        "7",
    ]
    assert all(Path(line.split("\t")[1]).is_file() for line in found.stdout.splitlines())
    assert found.stderr == ""


def test_the_command_refuses_bad_settings(tmp_path: Path) -> None:
    result = route(tmp_path, "golden-1", NUM_SHARDS="0", RESERVED_SHARD="x")
    assert (result.returncode, result.stdout) == (2, "")
    faults = [line.partition("=")[0] for line in result.stderr.splitlines()]
    assert faults == ["error: NUM_SHARDS", "error: RESERVED_SHARD"]
