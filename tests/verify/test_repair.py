"""--repair makes any damaged set whole, writes only what differs, and may be killed at any instant."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.shards.manifest import Manifest
from etl.shards.shard import Shard
from etl.sqlite.adbc import Connection
from etl.verify.command import run
from etl.verify.scope import Scope
from tests import faults
from tests.completeness import faults_of
from tests.damage import DAMAGES, FILE_DAMAGES, ROWS, Damage, Environ, at, every, rowids, spoil
from tests.faults import Point, kill
from tests.oracle import opened, quoted
from tests.system.test_privacy import MARKER, fill, traces
from tests.tables import Table, tables
from tests.verifier import Verifier, command, migrated_table
from tests.workplace import REPOSITORY, Outcome, Workplace, differences, error_line, migrate, shard_files, snapshot

POINTS = {
    "before a row is deleted": Point(Connection, "execute", says="DELETE FROM main", after=False),
    "after rows are deleted": Point(Connection, "execute", says="DELETE FROM main", after=True),
    "after rows are copied": Point(Connection, "execute", says="INSERT OR ABORT", after=True),
    "before a shard commits": Point(Connection, "execute", says="COMMIT", caller="_write"),
    "after a shard has committed": Point(Connection, "execute", says="COMMIT", caller="_write", after=True),
    "before a ledger is corrected": Point(Connection, "execute", says="COMMIT", caller="correct_ledger"),
    "after a ledger is corrected": Point(Connection, "execute", says="COMMIT", caller="correct_ledger", after=True),
    "after an index is dropped": Point(Shard, "drop", after=True),
    "before an index is built": Point(Connection, "execute", says="CREATE INDEX"),
    "before a shard turns to WAL": Point(Connection, "pragma", says="journal_mode WAL"),
    "before the manifest is corrected": Point(Manifest, "correct"),
    "between the corrected manifest and the old one": Point(Manifest, "_write", caller="_supersede", after=True),
    "among the old manifest's files": Point(Path, "unlink", caller="_supersede"),
}
COMMITS = 4
"""A repair of all of SEVERAL commits rows so often."""
KILLS = [(name, 1) for name in POINTS] + [
    *((name, 2) for name in ("before a row is deleted", "after rows are copied", "after a ledger is corrected")),
    *(("after a shard has committed", n) for n in range(2, COMMITS + 1)),
]
FOREIGN = ("extra", "duplicated")
"""The kinds of rows that no run may have written."""
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


def written_at(environ: Environ) -> dict[str, dict[int, str]]:
    """Each shard's windows, by first rowid, and when they were last written."""
    found = {}
    for path in shard_files(environ):
        with closing(opened(path)) as database:
            found[path.name] = dict(database.execute("SELECT first_rowid, committed_at FROM _etl_windows"))
    return found


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_repair_makes_every_damage_good(
    migrated: dict[str, str],
    verify: Verifier,
    capsys: pytest.CaptureFixture[str],
    damage: Damage,
) -> None:
    damage.apply(migrated)
    if damage.foreign:
        said = verify(migrated, Scope(quick=True), repair=True)
        assert said["exit_code"] == 4
        assert said["foreign_rows"] == damage.foreign == sum(said["rows"][kind]["count"] for kind in FOREIGN)
        damage = replace(damage, counts=said["differences"], windows=len(damage.rowids.get("duplicated", ())))
    said = verify(migrated, Scope(quick=True), repair=True, delete_foreign=True)
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
    before = written_at(migrated)
    at(205, "UPDATE clients SET note = 'other' WHERE rowid = 205")(migrated)
    at(1501, "UPDATE clients SET note = 'other' WHERE rowid = 1501")(migrated)
    assert verify(migrated, Scope(quick=True), repair=True)["repair"]["windows"] == 2
    after = written_at(migrated)
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
    said = verify(environ, Scope(quick=True), repair=True, force=True)  # most cells of every row are others
    assert (said["exit_code"], said["repair"]["found"]) == (0, {"changed": 5})
    assert faults_of(environ) == []


def test_a_load_that_was_killed_is_left_to_the_next_run(workplace: Workplace, verify: Verifier) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    assert faults.struck(environ, "between two shards' commits", 9).code == -signal.SIGKILL
    for repair in (False, True):
        said = verify(environ, Scope(quick=True), repair=repair)
        assert (said["exit_code"], said["outcome"], said["repair"]) == (2, "unfinished", None)
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


KEPT = "UPDATE clients SET note = 'called', amount = -1"
"""The key and half of each row's cells stay: the row is the one of before, as far as a few rows can tell."""
LIKELY_WRONG = {
    "many rows deleted": ("DELETE FROM clients WHERE rowid <= 1500", "1,500 extra"),
    "many rows changed": (f"{KEPT} WHERE rowid <= 1500", "1,500 changed"),
    "some deleted, some changed": (
        f"{KEPT} WHERE rowid <= 1500; DELETE FROM clients WHERE rowid <= 500",
        "1,000 changed",
    ),
    "just more than 1,000": (f"{KEPT} WHERE rowid <= 1001", "1,001 changed"),
    "another database": (
        "UPDATE clients SET k = 'new ' || rowid, INN = rowid, note = 'other', amount = -1",
        "found others or none at",
    ),
    "rowids moved by VACUUM": ("DELETE FROM clients WHERE rowid = 1; VACUUM", "a VACUUM changed its rowids"),
}


@pytest.mark.parametrize(("script", "expected"), LIKELY_WRONG.values(), ids=LIKELY_WRONG.keys())
def test_a_source_that_is_likely_the_wrong_one_is_refused_unless_forced(
    workplace: Workplace,
    migrated: dict[str, str],
    verify: Verifier,
    capsys: pytest.CaptureFixture[str],
    *,
    script: str,
    expected: str,
) -> None:
    with closing(sqlite3.connect(workplace.source)) as database:
        database.executescript(script)
    before = snapshot(workplace.shards.rglob("[!.]*"))  # all but the lock
    assert run(migrated, scope=Scope(quick=True), repair=True) == 2
    message = error_line(capsys.readouterr().err)
    assert re.search(expected, message)
    assert "--repair --force" in message
    assert snapshot(workplace.shards.rglob("[!.]*")) == before
    said = verify(migrated, Scope(quick=True), repair=True, force=True)
    assert said["exit_code"] == 0
    assert faults_of(migrated) == []
    assert verify(migrated, Scope(quick=True), repair=True)["repair"] is None


MANY_ROWS = 20_000
TENTH = {
    "a tenth changed": (f"{KEPT} WHERE rowid <= 2000", 0, ""),
    "more than a tenth changed": (f"{KEPT} WHERE rowid <= 2001", 2, "2,001 changed;"),
    "more than a tenth with another key": ("UPDATE clients SET k = '+' || k WHERE rowid <= 2600", 2, "misplaced;"),
}


@pytest.mark.parametrize(("statement", "code", "expected"), TENTH.values(), ids=TENTH.keys())
def test_up_to_a_tenth_of_a_large_table_is_followed(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], *, statement: str, code: int, expected: str
) -> None:
    workplace.populate(MANY_ROWS)
    environ = workplace.environ(BATCH_SIZE=2_000)
    assert migrate(environ) == 0
    capsys.readouterr()
    workplace.script(statement)
    assert run(environ, scope=Scope(quick=True), repair=True) == code
    assert (differences(environ) == []) == (code == 0)
    err = capsys.readouterr().err
    assert ("at most 2,000 of the shards' 20,000 rows compared" in err) == (code == 2)
    assert expected in err


def test_another_database_of_the_same_table_and_rowids_replaces_no_row(workplace: Workplace) -> None:
    workplace.populate(MANY_ROWS)
    environ = workplace.environ(BATCH_SIZE=2_000)
    assert migrate(environ) == 0
    other_place = Workplace(workplace.root / "other")
    other_place.root.mkdir()
    other_place.populate(MANY_ROWS, seed=2)
    before = snapshot(shard_files(environ))
    wrong = environ | {"SOURCE_DB": str(other_place.source)}
    assert run(wrong, scope=Scope(quick=True), repair=True) == migrate(wrong) == 2
    assert snapshot(shard_files(environ)) == before
    assert faults_of(environ) == []


def test_rows_that_only_the_source_has_are_never_too_many(migrated: dict[str, str], verify: Verifier) -> None:
    every("DELETE FROM clients WHERE rowid <= 1900")(migrated)
    said = verify(migrated, Scope(quick=True), repair=True)
    assert (said["exit_code"], said["repair"]["found"]["missing"]) == (0, 1900)
    assert faults_of(migrated) == []


def test_a_damaged_shard_does_not_hide_that_the_source_is_another(
    workplace: Workplace, migrated: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    FILE_DAMAGES["noise"](migrated)
    workplace.script(LIKELY_WRONG["another database"][0])
    assert run(migrated, scope=Scope(quick=True), repair=True) == 2
    assert "found others or none at" in error_line(capsys.readouterr().err)


def test_to_force_without_a_repair_is_a_usage_error(workplace: Workplace, migrated: dict[str, str]) -> None:
    ended = command(workplace, migrated, "--force")
    assert ended.code == 2
    assert "--force goes with --repair" in ended.err
    assert command(workplace, migrated, "--repair", "--force").code == 0


def in_some_shard(environ: Environ) -> set[int]:
    """The rowids of the source's rows that are in the shards."""
    return {rowid for path in shard_files(environ) for rowid in rowids(path) if 1 <= rowid <= ROWS}


def struck(environ: Environ, name: str, n: int) -> Outcome:
    """A repair in a process of its own, killed at the Nth pass of the point."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.verify.test_repair", name, str(n)],
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
    before = in_some_shard(migrated)
    outcome = struck(migrated, name, n)
    assert outcome.code == -signal.SIGKILL, f"never at {name!r} {n} times: exit {outcome.code}, {outcome.err}"
    assert before <= in_some_shard(migrated), "a row is in no shard meanwhile"
    assert verify(migrated, Scope(quick=True), repair=True, delete_foreign=True)["exit_code"] == 0
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
        return run(os.environ, scope=Scope(quick=True), repair=True, delete_foreign=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
