"""The history of verifications: proof is kept, whatever is verified later, and whatever a power cut leaves."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from etl import __version__
from etl.report import command as report
from etl.sources import source_file
from etl.status import command as status
from etl.status import verifications
from etl.status.verifications import last_full_proof
from etl.verify.scope import Scope
from tests.commands import ran
from tests.damage import ROWS, Environ, every
from tests.system.test_refresh import refreshed
from tests.verifier import Verifier
from tests.workplace import Workplace, migrate


def lines(place: Workplace) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place.shards / "clients_verifications.jsonl").read_text().splitlines()]


def test_each_verification_adds_a_line(workplace: Workplace, migrated: Environ, verify: Verifier) -> None:
    before = source_file.state(workplace.source)
    assert verify(migrated)["exit_code"] == 0
    every("UPDATE clients SET note = 'other' WHERE rowid = 7")(migrated)
    assert verify(migrated, Scope(quick=True))["exit_code"] == 4
    equal, different = lines(workplace)
    assert (equal["outcome"], equal["full"], equal["source_rows"], equal["differences"]) == ("equal", True, ROWS, {})
    assert equal["started_at"] < equal["finished_at"] < different["started_at"]
    assert equal["version"] == __version__
    assert equal["source"] == {
        "path": str(workplace.source),
        "size": workplace.source.stat().st_size,
        "mtime_ns": workplace.source.stat().st_mtime_ns,
        "change_counter": before.change_counter,
        "wal_mtime_ns": None,
    }
    assert (different["outcome"], different["rows_differing"]) == ("different", 1)
    assert different["scope"]["quick"]


def test_a_part_or_a_difference_does_not_replace_a_full_proof(
    workplace: Workplace, migrated: Environ, verify: Verifier
) -> None:
    assert last_full_proof(workplace.shards, "clients") is None
    assert verify(migrated, Scope(percent=50.0))["exit_code"] == 0
    assert last_full_proof(workplace.shards, "clients") is None
    verify(migrated)
    proof = last_full_proof(workplace.shards, "clients")
    assert proof
    assert (proof.rows, proof.source) == (ROWS, source_file.state(workplace.source))
    for scope in (Scope(percent=50.0), Scope(since=1000), Scope(shards=frozenset({1}))):
        verify(migrated, scope)
    workplace.script("UPDATE clients SET note = 'other' WHERE rowid = 7")
    assert verify(migrated)["exit_code"] == 4
    assert last_full_proof(workplace.shards, "clients") == proof
    assert source_file.state(workplace.source) != proof.source
    assert refreshed(migrated) == 0
    healed = last_full_proof(workplace.shards, "clients")
    assert healed
    assert healed.source == source_file.state(workplace.source)


@pytest.mark.parametrize("torn", ['{"started_at": "2024', "\x00\x00\x00", '{"started_at": "2024"}', "[]\n\n"])
def test_a_torn_line_is_skipped_and_does_not_spoil_the_next(
    workplace: Workplace, migrated: Environ, verify: Verifier, torn: str
) -> None:
    verify(migrated)
    first = last_full_proof(workplace.shards, "clients")
    path = workplace.shards / "clients_verifications.jsonl"
    path.write_text(path.read_text() + torn)
    assert last_full_proof(workplace.shards, "clients") == first
    assert verify(migrated)["exit_code"] == 0
    second = last_full_proof(workplace.shards, "clients")
    assert first
    assert second
    assert second.started_at > first.finished_at
    last = verifications.last(workplace.shards, "clients")
    assert last
    assert last["finished_at"] == second.finished_at


def test_the_counter_counts_transactions_and_is_unknown_in_wal_mode(workplace: Workplace) -> None:
    workplace.populate(10)
    first = source_file.state(workplace.source).change_counter
    workplace.script("UPDATE clients SET note = 'new'")
    assert first is not None
    assert source_file.state(workplace.source).change_counter == first + 1
    with closing(sqlite3.connect(workplace.source)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    assert source_file.state(workplace.source).change_counter is None


def test_status_report_and_metrics_show_it(
    workplace: Workplace, migrated: Environ, verify: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {**migrated, "METRICS_FILE": str(workplace.root / "etl.prom")}
    assert "last full proof: never" in ran("etl.status", environ).out
    assert report.run(environ) == 0
    assert "No verification has compared all rows" in (workplace.shards / "report.html").read_text()
    verify(environ | {"METRICS_FILE": str(workplace.root / "none" / "etl.prom")})
    verify(environ, Scope(percent=50.0))
    written = (workplace.root / "etl.prom").read_text()
    assert 'shard_migrate_last_verification_exit_code{table="clients"} 0.0' in written, "without another run"
    assert "last_verification_timestamp_seconds" in written
    assert f"last full proof: {ROWS:,} rows, 20" in ran("etl.status", environ).out
    assert json.loads(ran("etl.status", environ, "--json").out)["last_full_proof"]["rows"] == ROWS
    assert report.run(environ) == 0
    assert f"all {ROWS:,} rows of the source were compared" in (workplace.shards / "report.html").read_text()
    assert migrate(environ) == 0
    metrics = (workplace.root / "etl.prom").read_text()
    assert 'shard_migrate_rows_differing{table="clients"} 0.0' in metrics
    (line,) = [line for line in metrics.splitlines() if line.startswith("shard_migrate_last_full_proof_timestamp")]
    assert float(line.split()[-1]) > 1.7e9
    capsys.readouterr()


@pytest.mark.parametrize("torn", [b"", b"{", b'{"star', b'{"started_at": "2026'])
def test_a_first_line_that_a_power_cut_tore_does_no_harm(
    workplace: Workplace, migrated: Environ, verify: Verifier, torn: bytes
) -> None:
    (workplace.shards / "clients_verifications.jsonl").write_bytes(torn)
    assert [verify(migrated)["exit_code"], refreshed(migrated), verify(migrated)["exit_code"]] == [0, 0, 0]
    assert last_full_proof(workplace.shards, "clients")


@pytest.mark.parametrize(
    "harm",
    [
        *({"finished_at": value} for value in ("x", 5, None, "2026-01-01")),
        *({"started_at": value} for value in ("x", "2026-01-01")),
        *({name: None} for name in ("source_rows", "source", "rows_differing")),
        *({"source_rows": "many"}, {"source_rows": -1}, {"rows_differing": "many"}, {"shard_files": 7}),
    ],
)
def test_a_line_that_was_edited_counts_for_nothing_or_does_no_harm(
    workplace: Workplace, migrated: Environ, harm: dict[str, object]
) -> None:
    assert refreshed(migrated) == 0
    path = workplace.shards / "clients_verifications.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | harm) + "\n")
    assert [status.run(migrated), report.run(migrated), refreshed(migrated)] == [0, 0, 0]
