"""The benchmark runs, and finds out what is wrong with shards. No seconds are asserted here."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.bench import peers
from tests.bench.check import SAMPLED_ROWS, Wrong, check
from tests.bench.sources import Source, Variant, made
from tests.workplace import PATIENCE_SECONDS, REPOSITORY

COLUMNS = 12
SHARDS = 10


def bench(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", "--runs", "1", "--json", "-", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "SHARD_MIGRATE_BENCH_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def report_of(cache: Path, *arguments: str) -> Any:
    outcome = bench(cache, *arguments)
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_ours_and_a_peer_are_run_checked_and_reported(tmp_path: Path) -> None:
    report = report_of(tmp_path, "--rows", "20000", "--peers", "python")
    assert set(report) == {"scenario", "options", "cores", "cases", "skipped", "facts"}
    assert [case["name"] for case in report["cases"]] == ["etl", "python"]
    for case in report["cases"]:
        assert case["rows"] == case["rows_checked"] == 20_000
        assert case["cells_checked"] == SAMPLED_ROWS * COLUMNS
        assert len(case["runs"]) == 1
        assert set(case["runs"][0]) == {"wall_s", "cpu_s", "peak_mb", "threads"}
        assert {"wall_s", "s_per_million_rows", "ratio", "cpu_s", "peak_mb", "threads"} <= set(case)
    assert [path.suffix for path in tmp_path.iterdir()] == [".db"], "the source stays, the shards do not"


@pytest.mark.parametrize(
    ("scenario", "rows_checked"),
    [
        ("read-types", {"strict": 2000, "variant": 2000}),
        ("rerun", {"full load": 2000, "rerun": 2000}),
        ("increment", {"full load": 2000, "increment": 2020}),
        ("scale", {"100 rows": 100, "500 rows": 500, "2,000 rows": 2000}),
    ],
)
def test_every_scenario_checks_its_rows(tmp_path: Path, scenario: str, rows_checked: dict[str, int]) -> None:
    report = report_of(tmp_path, "--rows", "2000", "--scenario", scenario)
    assert {case["name"]: case["rows_checked"] for case in report["cases"]} == rows_checked


def test_a_program_that_makes_wrong_shards_ends_the_benchmark(tmp_path: Path) -> None:
    outcome = bench(tmp_path, "--rows", "1000", "--peers", "", "--limit", "true")
    assert outcome.returncode == 1
    assert "expected the shards 0 to 10, found 0" in outcome.stderr
    assert outcome.stdout == ""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setenv("SHARD_MIGRATE_BENCH_DIR", str(tmp_path / "cache"))
    return made(1000, Variant.VARIANT)


def test_the_variant_source_mixes_classes_in_three_columns_of_twelve(source: Source) -> None:
    with closing(sqlite3.connect(source.path)) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(clients)")]
        mixed = [
            column
            for column in columns
            if database.execute(
                f"SELECT count(DISTINCT typeof({column})) FROM clients WHERE {column} IS NOT NULL"
            ).fetchone()
            > (1,)
        ]
    assert len(columns) == COLUMNS
    assert mixed == ["BIRTH_DATE", "REGION", "BALANCE"]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM clients WHERE ID = (SELECT min(ID) FROM clients)",
        "UPDATE clients SET BALANCE = BALANCE + 1",
        "UPDATE clients SET INN = '' WHERE INN IS NULL",
        "UPDATE clients SET BIRTH_DATE = CAST(BIRTH_DATE AS TEXT)",
        "UPDATE clients SET ID = ID + 100000",
    ],
)
def test_the_check_finds(tmp_path: Path, source: Source, damage: str) -> None:
    peers.python(source.path, tmp_path, SHARDS)
    assert check(source, tmp_path, num_shards=SHARDS, seed=1) == (1000, SAMPLED_ROWS * COLUMNS)
    for path in tmp_path.glob("*.db"):
        with closing(sqlite3.connect(path)) as shard, shard:
            shard.execute(damage)
    with pytest.raises(Wrong):
        check(source, tmp_path, num_shards=SHARDS, seed=1)


def test_the_check_finds_rows_in_another_shard(tmp_path: Path, source: Source) -> None:
    peers.python(source.path, tmp_path, SHARDS)
    one, other = (tmp_path / f"clients_shard_{number:02d}.db" for number in (0, 1))
    other.rename(one.with_suffix(".moved"))
    one.rename(other)
    one.with_suffix(".moved").rename(one)
    with pytest.raises(Wrong):
        check(source, tmp_path, num_shards=SHARDS, seed=1)
