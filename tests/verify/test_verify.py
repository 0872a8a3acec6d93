"""python -m etl.verify: every kind of damage is found and named, sound shards are equal, bounds bound the work."""

import json
import os
import re
import shlex
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from adbc_driver_sqlite import dbapi
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.runtime import limits, lock
from etl.shards.comparison import Comparison
from etl.verify.command import run
from etl.verify.scope import Scope
from etl.verify.shard_reader import ShardReader
from etl.verify.worker import Worker
from tests.damage import DAMAGES, FILE_DAMAGES, ROWS, Damage, Environ, every, overwrite
from tests.specimens import ACCEPTED
from tests.tables import Table, append, tables
from tests.verifier import Verifier, command, migrated_table
from tests.workplace import REPOSITORY, Workplace, error_line, migrate, shard_files, snapshot

KINDS = {"missing", "extra", "changed", "misplaced", "duplicated"}


def test_sound_shards_are_equal_and_stay_as_they_are(migrated: dict[str, str], verify: Verifier) -> None:
    before = {path: state.digest for path, state in snapshot(shard_files(migrated)).items()}
    said = verify(migrated)
    assert (said["exit_code"], said["outcome"], said["differences"], said["notes"]) == (0, "equal", {}, [])
    assert (said["source_rows"], said["shard_rows"], said["shards"], said["windows"]) == (ROWS, ROWS, 4, ROWS // 100)
    assert {path: state.digest for path, state in snapshot(shard_files(migrated)).items()} == before
    assert json.loads(Path(migrated["SHARD_DIR"], "clients_verify.json").read_text())["outcome"] == "equal"


def test_what_is_said_to_machines_has_these_fields(migrated: dict[str, str], verify: Verifier) -> None:
    DAMAGES["a lost index"].apply(migrated)
    said = verify(migrated, Scope(quick=True, shards=frozenset({0}), since=5))
    varying = {"started_at": "", "version": "", "source": {}}
    assert said | {"finished_at": "", "seconds": 0, "source_rows": 0, "shard_rows": 0} | varying == varying | {
        "schema_version": 1,
        "outcome": "different",
        "exit_code": 4,
        "full": False,
        "finished_at": "",
        "seconds": 0,
        "source_rows": 0,
        "shard_rows": 0,
        "shards": 1,
        "windows": ROWS // 100,
        "newer_rows": 0,
        "scope": {"quick": True, "shards": [0], "since": 5, "sample_percent": None, "budget_s": None},
        "compared_percent": 100.0,
        "file_check": None,
        "warnings": [],
        "sealed_at": None,
        "rows_differing": 0,
        "differences": {"index": 1},
        "foreign_rows": 0,
        "rows": {kind: {"count": 0, "first_rowids": []} for kind in KINDS},
        "notes": [{"kind": "index", "place": str(shard_files(migrated)[0]), "text": "idx_clients_k is missing"}],
        "remarks": [],
        "repair": None,
    }


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_every_damage_is_found_and_named(migrated: dict[str, str], verify: Verifier, damage: Damage) -> None:
    damage.apply(migrated)
    said = verify(migrated, Scope(quick=True))
    assert said["exit_code"] == 4
    assert said["differences"] == damage.counts
    assert said["rows"].keys() == KINDS
    for kind in KINDS:
        assert said["rows"][kind]["first_rowids"] == damage.rowids.get(kind, []), kind


@pytest.mark.parametrize("apply", FILE_DAMAGES.values(), ids=FILE_DAMAGES.keys())
def test_a_damaged_file_is_named_with_the_way_out_and_the_others_are_compared(
    migrated: dict[str, str], verify: Verifier, apply: Callable[[Environ], None]
) -> None:
    apply(migrated)
    said = verify(migrated)
    assert said["exit_code"] == 4
    assert said["differences"] == {"file": 1}
    (file,) = said["notes"]
    assert file["place"].endswith("clients_shard_00.db")
    assert re.search("move (it|the file) away|run migrate", file["text"])


def test_rows_outside_every_window_that_cannot_be_read_are_named(migrated: dict[str, str], verify: Verifier) -> None:
    path = shard_files(migrated)[0]
    with closing(sqlite3.connect(path)) as database, database:
        rows = ((90_000 + i, "key", "z" * 900) for i in range(200))
        database.executemany("INSERT INTO clients (rowid, k, note) VALUES (?, ?, ?)", rows)
    overwrite(path, path.read_bytes().rindex(b"z" * 40))
    said = verify(migrated, Scope(files=False))
    assert (said["exit_code"], said["differences"]) == (4, {"file": 1})
    assert said["notes"][0]["place"] == str(path)


def test_damage_in_other_shards_is_found_beside_a_damaged_file(migrated: dict[str, str], verify: Verifier) -> None:
    FILE_DAMAGES["gone"](migrated)
    DAMAGES["damage in two far windows"].apply(migrated)
    said = verify(migrated, Scope(quick=True))
    assert said["differences"]["file"] == 1
    assert 0 < said["differences"]["changed"] <= 2
    assert "missing" not in said["differences"]


def test_where_every_shard_is_of_other_settings_it_is_refused(
    migrated: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(migrated | {"NUM_SHARDS": "2"}) == 2
    assert "made under other settings" in error_line(capsys.readouterr().err)


def test_without_shards_it_is_refused(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    workplace.populate(10)
    assert run(workplace.environ()) == 2
    assert "run migrate" in error_line(capsys.readouterr().err)


def test_an_unknown_shard_is_refused(migrated: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(migrated, scope=Scope(shards=frozenset({9}))) == 2
    assert "--shard 9: expected one of 0..2, 3;" in error_line(capsys.readouterr().err)


def test_rows_that_their_own_check_refuses_are_no_damage(workplace: Workplace, verify: Verifier) -> None:
    workplace.script(*ACCEPTED["rows their own CHECK refuses"])
    environ = workplace.environ()
    assert migrate(environ) == 0
    assert verify(environ)["exit_code"] == 0


def test_rows_that_came_after_the_last_run_are_no_difference(
    workplace: Workplace, migrated: dict[str, str], verify: Verifier
) -> None:
    workplace.populate(30, first=ROWS + 1, seed=9)
    workplace.script("INSERT INTO clients (rowid, k) VALUES (-5, 'early')")
    said = verify(migrated)
    assert (said["exit_code"], said["newer_rows"], said["source_rows"]) == (0, 31, ROWS)


def test_rows_changed_or_deleted_in_the_source_are_differences(
    workplace: Workplace, migrated: dict[str, str], verify: Verifier
) -> None:
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid = 5", "DELETE FROM clients WHERE rowid = 6")
    said = verify(migrated)
    assert said["differences"] == {"changed": 1, "extra": 1}
    assert said["rows"]["extra"]["first_rowids"] == [6]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, 7046029254386353131),
        (7046029254386353131, None),
        (None, struct.unpack("<d", struct.pack("<Q", 0xC3910C8D016B07D6))[0]),
        (1.0, 0x3FF0000000000000 + 0x9E3779B97F4A7C15 - 2**64),
        (1.0, 0x3FF0000000000000),
    ],
)
def test_numbers_whose_fingerprints_were_alike_are_differences(
    workplace: Workplace, verify: Verifier, before: float | None, after: float | None
) -> None:
    workplace.script("CREATE TABLE clients (k, n)", "INSERT INTO clients VALUES ('a', 0), ('b', 0), ('c', 0)")
    set_numbers(workplace.source, before)
    environ = workplace.environ()
    assert migrate(environ) == 0
    for path in shard_files(environ):
        set_numbers(path, after)
    assert verify(environ)["differences"] == {"changed": 3}


def set_numbers(path: Path, number: float | None) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE clients SET n = ?", (number,))


def test_another_source_is_compared_and_said_to_be_another(
    workplace: Workplace, migrated: dict[str, str], verify: Verifier
) -> None:
    assert verify(migrated)["warnings"] == []
    workplace.script("UPDATE clients SET k = 'new ' || rowid, INN = rowid, note = 'other', amount = -1")
    said = verify(migrated)
    assert said["exit_code"] == 4
    assert said["differences"]["misplaced"] + said["differences"]["changed"] == ROWS
    (warning,) = said["warnings"]
    assert warning.startswith(f"SOURCE_DB={workplace.source}: expected the rows that the shards were made from")
    out = " ".join(command(workplace, migrated, "--quick").out.split())
    assert "warning: SOURCE_DB=" in out
    assert "next:" not in out
    workplace.script(f"DELETE FROM clients WHERE rowid < {ROWS}")
    assert len(verify(migrated, Scope(quick=True, since=ROWS))["warnings"]) == 1, "it is looked at whatever the scope"


def test_one_shard_alone_is_compared(migrated: dict[str, str], verify: Verifier) -> None:
    DAMAGES["damage in two far windows"].apply(migrated)
    DAMAGES["a misplaced row"].apply(migrated)
    whole = verify(migrated, Scope(quick=True))
    parts = [verify(migrated, Scope(quick=True, shards=frozenset({shard}))) for shard in range(4)]
    assert sum(part["shard_rows"] for part in parts) == sum(part["source_rows"] for part in parts) == ROWS
    assert sum(part["differences"].get("changed", 0) for part in parts) == 2
    # Its own shard alone cannot know that the row is elsewhere.
    assert [part["rows"]["missing"]["first_rowids"] for part in parts if part["differences"].get("missing")] == [[205]]
    assert sum(part["differences"].get("misplaced", 0) for part in parts) == 1
    assert whole["differences"]["misplaced"] == 1


def test_since_compares_later_windows_only(migrated: dict[str, str], verify: Verifier) -> None:
    DAMAGES["damage in two far windows"].apply(migrated)
    said = verify(migrated, Scope(since=1401))
    assert (said["source_rows"], said["shard_rows"], said["windows"]) == (600, 600, 6)
    assert said["rows"]["changed"]["first_rowids"] == [1501]
    assert {path.suffix for path in Path(migrated["SHARD_DIR"]).glob("*_shard_*")} == {".db"}, "-wal and -shm were left"


def test_a_sample_compares_a_share_of_the_windows(
    migrated: dict[str, str], verify: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.verify.blocks.BLOCK_BYTES", 1)
    every("UPDATE clients SET note = 'other'")(migrated)
    said = verify(migrated, Scope(percent=25.0))
    assert (said["source_rows"], said["shard_rows"], said["windows"]) == (ROWS // 4, ROWS // 4, 5)
    assert said["differences"] == {"changed": ROWS // 4}


@pytest.mark.parametrize(("block_bytes", "files"), [(1, 64), (30_000, 300), (1 << 30, 64)])
def test_blocks_of_any_size_and_groups_of_shards_find_the_same(
    migrated: dict[str, str], verify: Verifier, monkeypatch: pytest.MonkeyPatch, block_bytes: int, files: int
) -> None:
    monkeypatch.setattr("etl.verify.blocks.BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(limits, "max_open_shards", lambda: files // 16)  # 4: two shards at once
    monkeypatch.setattr("etl.shards.comparison._BATCH_ROWS", 30)
    DAMAGES["damage in two far windows"].apply(migrated)
    DAMAGES["a row in two shards"].apply(migrated)
    said = verify(migrated)
    assert said["differences"] == {"changed": 2, "duplicated": 1, "ledger": 1}


@pytest.mark.parametrize(
    ("owner", "function", "share", "rest"),
    [
        (Comparison, "source_rows", 0.0, "but the next ones may differ"),
        (Worker, "compare", 0.0, "but the next ones may differ"),
        (ShardReader, "fault", 100.0, "and rows differ"),
    ],
)
def test_a_signal_stops_it_and_it_says_how_much_was_compared(
    migrated: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    *,
    function: str,
    share: float,
    rest: str,
) -> None:
    DAMAGES["a changed text"].apply(migrated)  # so that it is traced
    real, was_sent = getattr(owner, function), threading.Event()

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if not was_sent.is_set():
            was_sent.set()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)  # the main thread handles it
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, function, interrupted)
    assert run(migrated) == 143
    out = capsys.readouterr().out
    assert f"stopped by SIGTERM: {share} % of rows compared, {rest}" in out
    assert "equal so far" not in out


@pytest.mark.parametrize(("work", "repair"), [(lock.RUN, True), (lock.VERIFICATION, False)])
def test_it_is_turned_away_while_another_is_at_work(
    migrated: dict[str, str], capsys: pytest.CaptureFixture[str], work: lock.Work, *, repair: bool
) -> None:
    with lock.exclusive(Path(migrated["SHARD_DIR"]), "2024-01-02T03:04:05", work):
        assert run(migrated, repair=repair) == 3
    message = error_line(capsys.readouterr().err)
    assert f"the {work.noun} with pid {os.getpid()}, started 2024-01-02T03:04:05" in message


@settings(max_examples=25)
@given(table=tables(), num_shards=st.integers(1, 5), batch_size=st.integers(1, 7))
def test_any_table_is_equal_to_its_shards(*, table: Table, num_shards: int, batch_size: int) -> None:
    with migrated_table(table, num_shards=num_shards, batch_size=batch_size) as (place, environ):
        assert run(environ) == 0
        append(table, place.source)
        assert run(environ) == 0
        assert migrate(environ) == 0
        assert run(environ) == 0


def test_the_command_says_it_in_a_line_for_each_kind(workplace: Workplace, migrated: dict[str, str]) -> None:
    equal = command(workplace, migrated)
    assert (equal.code, equal.err) == (0, "")
    assert re.fullmatch(
        r"equal: 2,000 rows in 4 shards, 20 windows; .* s \(.* rows/s\)\n  files: integrity_check of SQLite 3\S+\n",
        equal.out,
    )
    DAMAGES["more rows than are listed"].apply(migrated)
    different = command(workplace, migrated, "--quick")
    assert different.code == 4
    lines = different.out.splitlines()
    assert lines[0].startswith("different: 2,000 rows")
    assert "  changed: 50 rows; rowids 401, 402, " in different.out
    assert lines[-1] == "next: python -m etl.verify --repair"


@pytest.mark.parametrize(
    ("scope", "check"),
    [(Scope(), "integrity_check"), (Scope(quick=True), "quick_check"), (Scope(percent=50.0), None)],
)
def test_it_says_which_sqlite_checked_the_files(
    migrated: dict[str, str], verify: Verifier, scope: Scope, check: str | None
) -> None:
    with closing(dbapi.connect(":memory:")) as writer, closing(writer.cursor()) as cursor:
        cursor.execute("SELECT sqlite_version()")
        ((version,),) = cursor.fetchall()
    assert verify(migrated, scope)["file_check"] == (f"{check} of SQLite {version}" if check else None)


def test_a_damaged_file_asks_for_no_repair(migrated: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    FILE_DAMAGES["noise"](migrated)
    capsys.readouterr()
    assert run(migrated, scope=Scope(quick=True)) == 4
    out = capsys.readouterr().out
    assert "--repair" not in out
    assert out.splitlines()[-1] == "next: move away each file named above that is there, run migrate, and verify again"


def test_a_reader_that_goes_away_is_no_failure(workplace: Workplace, migrated: dict[str, str]) -> None:
    python = f"{shlex.quote(sys.executable)} -m etl.verify"
    ended = subprocess.run(
        ["bash", "-c", f"{python} | true; echo ${{PIPESTATUS[0]}}"],
        cwd=workplace.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **migrated},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("0\n", "")


def test_the_log_says_what_was_found(workplace: Workplace, migrated: dict[str, str], verify: Verifier) -> None:
    DAMAGES["a changed text"].apply(migrated)
    verify(migrated)
    (path,) = workplace.logs.glob("logs/verify_*.log")
    events = {line["event"]: line for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    assert events["verified"]["differences"] == {"changed": 1}
    assert events["end"]["exit_code"] == 4
