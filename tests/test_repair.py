"""--repair makes any damaged set whole, writes only what differs, and may be killed at any instant."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.connection import Connection
from etl.manifest import Manifest
from etl.shard import Shard
from etl.source import Source
from etl.transaction import Transaction
from etl.verification.scope import Scope
from etl.verify import run
from tests import faults
from tests.completeness import faults_of
from tests.damage import DAMAGES, FILE_DAMAGES, ROWS, Damage, Environ, at, every, spoil
from tests.faults import Point, kill
from tests.oracle import opened, quoted
from tests.tables import Table, tables
from tests.test_privacy import MARKER, fill, traces
from tests.verifier import Verifier, command, migrated_table
from tests.workplace import REPOSITORY, Outcome, Workplace, differences, error_line, migrate, shard_files, snapshot

POINTS = {
    "before a row is deleted": Point(Connection, "execute", says="DELETE FROM", after=False),
    "after a window's rows are deleted": Point(Connection, "execute", says="DELETE FROM", after=True),
    "after the source is read": Point(Source, "read", after=True),
    "after rows are inserted": Point(Transaction, "insert", after=True),
    "before a shard commits": Point(Connection, "execute", says="COMMIT", caller="commit"),
    "after a shard has committed": Point(Connection, "execute", says="COMMIT", caller="commit", after=True),
    "after an index is dropped": Point(Shard, "drop", after=True),
    "before an index is built": Point(Connection, "execute", says="CREATE INDEX"),
    "before a shard turns to WAL": Point(Connection, "pragma", says="journal_mode WAL"),
    "before the manifest is mended": Point(Manifest, "mend"),
    "between the mended manifest and the old one": Point(Manifest, "_write", caller="_supersede", after=True),
    "among the old manifest's files": Point(Path, "unlink", caller="_supersede"),
}
KILLS = [(name, 1) for name in POINTS] + [
    (name, 2) for name in ("before a row is deleted", "after rows are inserted", "after a shard has committed")
]
SEVERAL = (
    "damage in two far windows",
    "a misplaced row",
    "a row in two shards",
    "a missing row",
    "extra rows above and below",
    "a wrong count in the ledger",
    "another index of that name",
    "a wrong sum in the manifest",
)


def written_by(environ: Environ) -> dict[str, dict[int, str]]:
    """Each shard's windows, by first rowid, and the run that wrote them."""
    found = {}
    for path in shard_files(environ):
        with closing(opened(path)) as database:
            found[path.name] = dict(database.execute("SELECT first_rowid, run_id FROM _etl_windows"))
    return found


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_repair_makes_every_damage_good(
    migrated: dict[str, str],
    verify: Verifier,
    capsys: pytest.CaptureFixture[str],
    damage: Damage,
) -> None:
    damage.apply(migrated)
    said = verify(migrated, Scope(quick=True), repair=True)
    assert (said["exit_code"], said["outcome"], said["differences"]) == (0, "equal", {})
    assert said["repair"]["found"] == damage.counts
    assert said["repair"]["windows"] == damage.windows
    assert verify(migrated)["exit_code"] == 0
    assert migrate(migrated) == 0  # brings what the shards had lost with their ledgers
    assert "nothing new" in capsys.readouterr().out or damage.counts.get("extra") == 100
    assert faults_of(migrated) == []


def test_only_the_windows_that_differ_are_written_again(
    migrated: dict[str, str],
    verify: Verifier,
) -> None:
    before = written_by(migrated)
    at(205, "UPDATE clients SET note = 'other' WHERE rowid = 205")(migrated)
    at(1501, "UPDATE clients SET note = 'other' WHERE rowid = 1501")(migrated)
    assert verify(migrated, Scope(quick=True), repair=True)["repair"]["windows"] == 2
    after = written_by(migrated)
    rewritten = [
        (name, window)
        for name, windows in after.items()
        for window in windows
        if windows[window] != before[name][window]
    ]
    assert sorted(window for _, window in rewritten) == [201, 1501]
    assert faults_of(migrated) == []


def test_cells_that_are_unique_may_have_changed_windows(workplace: Workplace, verify: Verifier) -> None:
    workplace.script(
        "CREATE TABLE clients (k TEXT, u TEXT UNIQUE)",
        "INSERT INTO clients WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) "
        "SELECT '7' || i, 'u' || i FROM n",
    )
    environ = workplace.environ(NUM_SHARDS=1, RESERVED_SHARD=1)
    assert migrate(environ) == 0
    every(
        "UPDATE clients SET u = 'aside' WHERE rowid = 5",
        "UPDATE clients SET u = 'u5' WHERE rowid = 450",
        "UPDATE clients SET u = 'u450' WHERE rowid = 5",
    )(environ)
    assert verify(environ, Scope(quick=True), repair=True)["exit_code"] == 0
    assert faults_of(environ) == []


def test_mixed_cells_are_mended_in_the_exact_lane(workplace: Workplace, verify: Verifier) -> None:
    workplace.script("CREATE TABLE clients (k, n NUMERIC, i INTEGER)")
    rows = ("'a', 9007199254740993, 'text'", "'b', 0.5, x'00'", "7, 'x', 9e999", "NULL, NULL, -0.0", "x'ff', x'', 1")
    workplace.script(*(f"INSERT INTO clients VALUES ({row})" for row in rows))
    environ = workplace.environ()
    assert migrate(environ) == 0
    every("UPDATE clients SET n = 1, i = 2")(environ)
    said = verify(environ, Scope(quick=True), repair=True)
    assert (said["exit_code"], said["repair"]["found"]) == (0, {"changed": 5})
    assert faults_of(environ) == []


def test_a_load_that_was_killed_is_finished_as_far_as_it_came(workplace: Workplace, verify: Verifier) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    assert faults.struck(environ, "between two shards' commits", 9).code == -signal.SIGKILL
    assert verify(environ, Scope(quick=True))["exit_code"] == 4
    said = verify(environ, Scope(quick=True), repair=True)
    assert said["exit_code"] == 0
    assert 0 < said["repair"]["windows"] < ROWS // 100
    assert said["newer_rows"] > 0
    assert migrate(environ) == 0
    assert faults_of(environ) == []


def test_what_changed_in_the_source_is_followed(
    workplace: Workplace, migrated: dict[str, str], verify: Verifier
) -> None:
    workplace.script(
        "UPDATE clients SET note = 'new' WHERE rowid = 5",
        "UPDATE clients SET k = 'elsewhere' || rowid WHERE rowid BETWEEN 300 AND 305",
        "DELETE FROM clients WHERE rowid = 6",
        "INSERT INTO clients (rowid, k) VALUES (6, 'another')",
        "DELETE FROM clients WHERE rowid = 1999",
    )
    assert verify(migrated, Scope(quick=True), repair=True)["exit_code"] == 0
    assert faults_of(migrated) == []


@settings(max_examples=25)
@given(table=tables(), num_shards=st.integers(1, 5), batch_size=st.integers(1, 7))
def test_any_table_whose_rows_were_lost_is_written_again(*, table: Table, num_shards: int, batch_size: int) -> None:
    with migrated_table(table, num_shards=num_shards, batch_size=batch_size) as (_, environ):
        every(f"DELETE FROM {quoted(table.name)}")(environ)
        assert run(environ, scope=Scope(quick=True), repair=True) == 0
        assert differences(environ) == []


def test_one_shard_alone_is_mended(migrated: dict[str, str], verify: Verifier) -> None:
    every("UPDATE clients SET note = 'other' WHERE rowid < 100")(migrated)
    one = Scope(quick=True, shards=frozenset({1}))
    assert verify(migrated, one, repair=True)["exit_code"] == 0
    assert verify(migrated, one)["exit_code"] == 0
    assert verify(migrated, Scope(quick=True))["exit_code"] == 4
    assert verify(migrated, Scope(quick=True), repair=True)["exit_code"] == 0
    assert faults_of(migrated) == []


@pytest.mark.parametrize("apply", FILE_DAMAGES.values(), ids=FILE_DAMAGES.keys())
def test_a_damaged_file_is_left_alone_and_the_rest_is_mended(
    migrated: dict[str, str],
    verify: Verifier,
    apply: Callable[[Environ], None],
) -> None:
    for path in shard_files(migrated)[1:]:
        spoil(path, "UPDATE clients SET note = 'other' WHERE rowid = (SELECT max(rowid) FROM clients)")
    apply(migrated)
    damaged = snapshot(shard_files(migrated)[:1]) if apply is not FILE_DAMAGES["gone"] else {}
    said = verify(migrated, repair=True)
    assert (said["exit_code"], said["differences"]) == (4, {"file": 1})
    assert said["repair"]["found"]["changed"] == 3
    assert snapshot(damaged.keys()) == damaged
    for path in Path(migrated["SHARD_DIR"]).glob("clients_shard_00.db*"):
        path.rename(f"{path}.away")
    assert migrate(migrated) == 0
    assert verify(migrated)["exit_code"] == 0
    assert faults_of(migrated) == []


def test_a_source_that_lacks_many_rows_is_refused_as_the_wrong_one(
    workplace: Workplace,
    migrated: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = snapshot(shard_files(migrated))
    workplace.script("DELETE FROM clients WHERE rowid <= 1500")
    assert run(migrated, scope=Scope(quick=True), repair=True) == 2
    assert "lacks 1,500 of the 2,000 rows" in error_line(capsys.readouterr().err)
    assert [each.digest for each in snapshot(shard_files(migrated)).values()] == [
        each.digest for each in before.values()
    ]


def struck(environ: Environ, name: str, n: int) -> Outcome:
    """A repair in a process of its own, killed at the Nth pass of the point."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.test_repair", name, str(n)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize(("name", "n"), KILLS)
def test_a_repair_killed_anywhere_is_made_whole_by_the_next(
    migrated: dict[str, str],
    verify: Verifier,
    name: str,
    n: int,
) -> None:
    for damage in SEVERAL:
        DAMAGES[damage].apply(migrated)
    outcome = struck(migrated, name, n)
    assert outcome.code == -signal.SIGKILL, f"never at {name!r} {n} times: exit {outcome.code}, {outcome.err}"
    assert verify(migrated, Scope(quick=True), repair=True)["exit_code"] == 0
    assert faults_of(migrated) == []


def test_nothing_tells_a_cell(workplace: Workplace) -> None:
    fill(workplace, first=1, last=ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,t")
    outcomes = [workplace.command(environ)]
    for path in shard_files(environ):
        spoil(
            path,
            f"UPDATE clients SET u = '{MARKER}!', k = k || '{MARKER}' WHERE rowid % 7 = 0",
            "DROP INDEX idx_clients_k",
        )
        spoil(path, "DELETE FROM clients WHERE rowid % 11 = 0")
    outcomes += [command(workplace, environ, *options) for options in ((), ("--json",), ("--repair",), ())]
    assert [outcome.code for outcome in outcomes] == [0, 4, 4, 0, 0]
    assert traces(workplace, *outcomes) == []


def main(name: str, n: str) -> int:
    point = POINTS[name]
    with patch.object(point.owner, point.function, point.struck(int(n), kill)):
        return run(os.environ, scope=Scope(quick=True), repair=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
