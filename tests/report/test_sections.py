"""What the report says about shards, with and without faults."""

import re
import shutil
import sqlite3
from contextlib import closing

import polars as pl
import pytest

from etl.report import data, run_sections, shard_sections, statistics
from etl.report.charts import Chart
from etl.report.command import SECTIONS
from etl.report.html import HtmlTable
from etl.shards.manifest import Manifest
from etl.verify import command as verify
from tests.workplace import Workplace, migrate, shard_files


@pytest.fixture
def clients(workplace: Workplace) -> Workplace:
    workplace.populate(3000)
    assert migrate(workplace.environ()) == 0
    return workplace


def test_a_correct_set_has_no_faults(clients: Workplace) -> None:
    inspection = data.inspect(clients.shards)
    assert shard_sections.rows_verdict(inspection).startswith("**Yes, within what chance explains.**")
    assert shard_sections.misplaced_verdict(inspection).startswith("**Yes.** The keys of all 3,000 rows")
    assert run_sections.windows_verdict(inspection).startswith("**Yes.** 30 windows without gap or overlap.")
    assert run_sections.widened_verdict(inspection).startswith("**None**, by the manifest")
    assert inspection.rows == 3000
    assert inspection.shards["bytes"].to_list() == [path.stat().st_size for path in shard_files(clients.environ())]


def move_rows(place: Workplace, *, rows: int) -> None:
    """Moves the first rows of shard 0 to shard 1."""
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
    verdict = shard_sections.misplaced_verdict(data.inspect(clients.shards))
    assert verdict.startswith(
        "**No: 3 of 3,000 rows read are in another shard than the shard of their key** (shards 1)."
    )


def test_a_sample_says_that_it_is_one(clients: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SAMPLE_ROWS", 800)
    inspection = data.inspect(clients.shards)
    sampled = inspection.shards["sampled"].sum()
    assert 600 <= sampled <= 800
    assert f"In a sample of {sampled} of 3,000 rows," in shard_sections.largest_keys_verdict(inspection)
    move_rows(clients, rows=700)
    assert shard_sections.misplaced_verdict(data.inspect(clients.shards)).startswith("**No: ")


def test_a_key_with_many_rows_is_named_by_an_hmac_that_changes(clients: Workplace) -> None:
    key = "+70001112233"
    clients.script(f"INSERT INTO clients (k) SELECT '{key}' FROM clients LIMIT 700")
    assert migrate(clients.environ()) == 0
    first, second = (data.inspect(clients.shards) for _ in range(2))
    assert [each.largest_keys["rows"][0] for each in (first, second)] == [700, 700]
    assert first.largest_keys["name"][0] != second.largest_keys["name"][0]
    assert shard_sections.largest_keys_verdict(first).startswith("**Yes.** In all 3,700 rows, the largest key has 700")
    chart = shard_sections.largest_keys_chart(first)
    assert isinstance(chart, Chart)
    assert key not in chart.svg
    assert shard_sections.rows_verdict(first).startswith("**No: less even than chance explains.**")


def test_rows_without_a_key_are_counted_in_a_reserved_shard_that_is_also_a_hash_shard(workplace: Workplace) -> None:
    workplace.populate(3000)
    workplace.script(
        "UPDATE clients SET k = char(8195) WHERE rowid % 7 = 0", "UPDATE clients SET k = '' WHERE rowid % 11 = 0"
    )
    assert migrate(workplace.environ(RESERVED_SHARD=1)) == 0
    inspection = data.inspect(workplace.shards)
    with closing(sqlite3.connect(workplace.source)) as database:
        blank = "k IS NULL OR k IN ('', char(8195))"
        (keyless,) = database.execute(f"SELECT count(*) FROM clients WHERE {blank}").fetchone()
    assert inspection.shards["keyless"].to_list() == [0, keyless, 0]
    assert statistics.fit(inspection.hash_shards["rows"].to_list()).is_even
    assert (
        f"{keyless:,} rows with a key that is NULL, empty or blank. They are in shard 1, which is also a hash shard:"
        in (shard_sections.reserved_verdict(inspection))
    )


def test_the_page_begins_with_the_last_full_proof_and_what_is_known_since(clients: Workplace) -> None:
    def proof() -> str:
        return run_sections.proof(data.inspect(clients.shards))

    environ = clients.environ()
    assert proof().startswith("**Never.** No verification has compared all rows")
    assert verify.run(environ) == 0
    assert re.fullmatch(
        r"\*\*\S+ \S+ UTC, 0:0\d before this page was written\*\*: all 3,000 rows of the source were compared with the "
        r"shards' and were equal\. The source's file has not changed since that verification began\.",
        proof(),
    )
    clients.populate(100, first=3001)
    assert migrate(environ) == 0
    with closing(sqlite3.connect(shard_files(environ)[0])) as database, database:
        database.execute("DELETE FROM clients WHERE rowid IN (SELECT rowid FROM clients LIMIT 10)")
    assert "Now the shards' ledgers record 3,100. The source's file has changed since" in proof()
    assert "**The shards' ledgers record 3,100 rows, but their files have 3,090**: run" in proof()
    assert "were hashed again" in shard_sections.misplaced_verdict(data.inspect(clients.shards))
    assert verify.run(environ) == 4
    assert "The last verification: **exit code 4, 10 differing rows**, " in proof()


def test_a_gap_in_the_manifest_is_reported(clients: Workplace) -> None:
    manifest = Manifest(clients.shards, "clients")
    entries = manifest.entries()
    for path in manifest.directory.glob("*.parquet"):
        path.unlink()
    entries.filter(pl.int_range(pl.len()) != 4).write_parquet(manifest.directory / "some.parquet")
    verdict = run_sections.windows_verdict(data.inspect(clients.shards))
    assert verdict.startswith("**No.** 1 gap, 0 overlaps. The windows have 2,900 rows, the shards' ledgers 3,000.")


def test_a_rebuilt_manifest_knows_no_times_and_says_so(clients: Workplace) -> None:
    shutil.rmtree(clients.shards / "manifest")
    assert migrate(clients.environ()) == 0
    inspection = data.inspect(clients.shards)
    assert run_sections.run_verdict(inspection).startswith("The manifest was rebuilt from the ledgers")
    assert "Was the speed of the load constant?" in run_sections.throughput_chart(inspection).svg
    assert "How long did each stage take?" in run_sections.stages_chart(inspection).svg


def test_columns_of_mixed_classes_are_named(clients: Workplace) -> None:
    clients.script("INSERT INTO clients (INN) VALUES (x'00')")
    assert migrate(clients.environ()) == 0
    assert run_sections.widened_verdict(data.inspect(clients.shards)).startswith(
        "**1 column**: `INN` from the window at rowid 3,001 on."
    )


def test_many_shards_are_shown_as_a_histogram(workplace: Workplace) -> None:
    workplace.populate(2000)
    assert migrate(workplace.environ(NUM_SHARDS=60, RESERVED_SHARD=60, BATCH_SIZE=500)) == 0
    inspection = data.inspect(workplace.shards)
    assert "rows with a key" in shard_sections.rows_chart(inspection).svg
    assert "hash shards; by size on disk" in shard_sections.bytes_chart(inspection).svg
    table = shard_sections.rows_table(inspection)
    assert isinstance(table, HtmlTable)
    assert len(table.frame) == 10


def test_the_report_on_an_empty_table_has_no_nan(workplace: Workplace) -> None:
    workplace.script("CREATE TABLE clients (k TEXT)")
    assert migrate(workplace.environ()) == 0
    inspection = data.inspect(workplace.shards)
    for function in (shard_sections.summary, *(each for section in SECTIONS for each in section.functions)):
        part = function(inspection)
        assert "nan" not in (part.svg if isinstance(part, Chart) else str(part)).lower()
