"""What an inspection finds in shards that something is wrong with, and says in which words."""

import shutil
import sqlite3
from contextlib import closing

import polars as pl
import pytest

from etl.report import data, run_sections, shard_sections
from etl.shards.manifest import Manifest
from tests.workplace import Workplace, migrate, shard_files


@pytest.fixture
def clients(workplace: Workplace) -> Workplace:
    workplace.populate(3000)
    assert migrate(workplace.environ()) == 0
    return workplace


def test_a_sound_set_has_nothing_to_be_said_of(clients: Workplace) -> None:
    seen = data.take(clients.shards)
    assert shard_sections.rows_verdict(seen).startswith("**Yes, as even as chance makes it.**")
    assert shard_sections.misplaced_verdict(seen).startswith("**Yes.** The keys of 3,000 of 3,000 rows")
    assert run_sections.seams_verdict(seen).startswith("**Yes.** 30 windows follow each other")
    assert run_sections.widened_verdict(seen).startswith("**None.**")
    assert seen.rows == 3000
    assert seen.shards["bytes"].to_list() == [path.stat().st_size for path in shard_files(clients.environ())]


def move_rows(place: Workplace, *, rows: int) -> None:
    """Put the first rows of shard 0 into shard 1 instead."""
    first, second = shard_files(place.environ())[:2]
    with closing(sqlite3.connect(first)) as database, database:
        taken = database.execute(
            f"SELECT rowid, * FROM clients WHERE k IS NOT NULL ORDER BY rowid LIMIT {rows}"
        ).fetchall()
        database.executemany("DELETE FROM clients WHERE rowid = ?", [row[:1] for row in taken])
    with closing(sqlite3.connect(second)) as database, database:
        database.executemany("INSERT INTO clients (rowid, k, INN, note, amount) VALUES (?, ?, ?, ?, ?)", taken)


def test_rows_in_the_wrong_shard_are_counted(clients: Workplace) -> None:
    move_rows(clients, rows=3)
    said = shard_sections.misplaced_verdict(data.take(clients.shards))
    assert said.startswith(
        "**No: 3 of 3,000 rows looked at are in a shard that their key does not lead to** (shards 1)."
    )


def test_a_sample_says_that_it_is_one(clients: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SAMPLE_ROWS", 800)
    seen = data.take(clients.shards)
    sampled = seen.shards["sampled"].sum()
    assert 600 <= sampled <= 800
    assert f"In a sample of {sampled} of 3,000 rows" in shard_sections.heaviest_verdict(seen)
    move_rows(clients, rows=700)
    assert shard_sections.misplaced_verdict(data.take(clients.shards)).startswith("**No: ")


def test_a_key_with_many_rows_is_named_by_an_hmac_that_changes(clients: Workplace) -> None:
    key = "+70001112233"
    clients.script(f"INSERT INTO clients (k) SELECT '{key}' FROM clients LIMIT 700")
    assert migrate(clients.environ()) == 0
    looks = [data.take(clients.shards) for _ in range(2)]
    assert [seen.heaviest["rows"][0] for seen in looks] == [700, 700]
    assert looks[0].heaviest["name"][0] != looks[1].heaviest["name"][0]
    assert shard_sections.heaviest_verdict(looks[0]).startswith("**Yes.** In all rows the heaviest key has 700")
    assert key not in str(shard_sections.heaviest_chart(looks[0]))
    assert shard_sections.rows_verdict(looks[0]).startswith("**No: more uneven than chance explains.**")


def test_keyless_rows_are_told_from_hashed_ones_in_a_shared_shard(workplace: Workplace) -> None:
    workplace.populate(3000)
    workplace.script(
        "UPDATE clients SET k = char(8195) WHERE rowid % 7 = 0", "UPDATE clients SET k = '' WHERE rowid % 11 = 0"
    )
    assert migrate(workplace.environ(RESERVED_SHARD=1)) == 0
    seen = data.take(workplace.shards)
    with closing(sqlite3.connect(workplace.source)) as database:
        blank = "k IS NULL OR k IN ('', char(8195))"
        (keyless,) = database.execute(f"SELECT count(*) FROM clients WHERE {blank}").fetchone()
    assert seen.shards["keyless"].to_list() == [0, keyless, 0]
    assert shard_sections.fit(seen).is_even
    assert f"{keyless:,} rows whose key is NULL, empty or blank are in shard 1, a hash shard as well" in (
        shard_sections.reserved_verdict(seen)
    )


def test_a_gap_in_the_manifest_is_reported(clients: Workplace) -> None:
    manifest = Manifest(clients.shards, "clients")
    entries = manifest.entries()
    for path in manifest.directory.glob("*.parquet"):
        path.unlink()
    entries.filter(pl.int_range(pl.len()) != 4).write_parquet(manifest.directory / "some.parquet")
    said = run_sections.seams_verdict(data.take(clients.shards))
    assert said.startswith("**No.** 1 gaps, 0 overlaps; the windows have 2,900 rows, the shards' ledgers 3,000.")


def test_a_rebuilt_manifest_knows_no_times_and_says_so(clients: Workplace) -> None:
    shutil.rmtree(clients.shards / "manifest")
    assert migrate(clients.environ()) == 0
    seen = data.take(clients.shards)
    assert run_sections.run_verdict(seen).startswith("The manifest was rebuilt from the ledgers")
    assert "Did the load keep its pace?" in str(run_sections.throughput_chart(seen))
    assert "Where did the time go?" in str(run_sections.stages_chart(seen))


def test_columns_of_mixed_classes_are_named(clients: Workplace) -> None:
    clients.script("INSERT INTO clients (INN) VALUES (x'00')")
    assert migrate(clients.environ()) == 0
    assert run_sections.widened_verdict(data.take(clients.shards)).startswith(
        "**1**: `INN` from the window at rowid 3,001 on."
    )


def test_many_shards_are_shown_as_a_spread(workplace: Workplace) -> None:
    workplace.populate(2000)
    assert migrate(workplace.environ(NUM_SHARDS=60, RESERVED_SHARD=60, BATCH_SIZE=500)) == 0
    seen = data.take(workplace.shards)
    assert "rows with a key" in str(shard_sections.rows_chart(seen))
    assert str(shard_sections.bytes_chart(seen)).count("<rect") == 30
    assert len(shard_sections.rows_table(seen).frame) == 10


def test_an_empty_table_is_looked_at_without_a_fault(workplace: Workplace) -> None:
    workplace.script("CREATE TABLE clients (k TEXT)")
    assert migrate(workplace.environ()) == 0
    seen = data.take(workplace.shards)
    for say in (
        *(
            shard_sections.summary,
            shard_sections.rows_verdict,
            shard_sections.rows_chart,
            shard_sections.rows_table,
            shard_sections.reserved_verdict,
        ),
        *(
            shard_sections.reserved_chart,
            shard_sections.heaviest_verdict,
            shard_sections.heaviest_chart,
            shard_sections.bytes_verdict,
        ),
        *(
            shard_sections.bytes_chart,
            shard_sections.misplaced_verdict,
            run_sections.run_verdict,
            run_sections.throughput_chart,
        ),
        *(run_sections.stages_chart, run_sections.seams_verdict, run_sections.widened_verdict),
    ):
        assert "nan" not in str(say(seen)).lower()
