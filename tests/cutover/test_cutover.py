"""python -m etl.cutover: what it refuses, what a seal does, a kill in the middle, and the way back."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from etl.cutover import command as cutover
from etl.migrate.command import run
from etl.migrate.refresh import Refresh
from etl.runtime.options import Given
from etl.verify import command as verify
from etl.verify.scope import Scope
from tests.commands import ran
from tests.verifier import Verifier
from tests.workplace import REPOSITORY, Workplace, differences, log_events, migrate, shard_files, snapshot

NOWHERE = Path("/nowhere/.env")
ROWS = 300
TABLE = "CREATE TABLE clients (id INTEGER PRIMARY KEY, k TEXT, note TEXT)"
AUTOINCREMENT = TABLE.replace("KEY,", "KEY AUTOINCREMENT,", 1)
KILL = """
import os, sys
from etl.cutover import command
from etl.runtime.options import Given
from etl.shards.shard import Shard
from pathlib import Path
real, passes = getattr(Shard, sys.argv[1]), []
def killed(*given, **named):
    passes.append(1)
    if len(passes) == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    return real(*given, **named)
setattr(Shard, sys.argv[1], killed)
given = Given(os.environ, Path("/nowhere/.env"))
sys.exit(command.run(given) if sys.argv[1] == "seal" else command.undo(given))
"""
Environ = dict[str, str]
SHARDS_CHANGED = "expected no change of the shards"


def proved(place: Workplace, ddl: str = TABLE, **changes: str) -> Environ:
    """Settings whose source is in the shards, and verified."""
    place.script(ddl, *(f"INSERT INTO clients (k, note) VALUES ('+7000{row:07d}', 'n')" for row in range(ROWS)))
    environ = place.environ(INDEX_COLUMNS="note", METRICS_FILE=str(place.root / "run.prom"), **changes)
    assert migrate(environ) == 0
    assert verify.run(environ) == 0
    return environ


def check(environ: Environ) -> int:
    return cutover.check(Given(environ, NOWHERE))


def seal(environ: Environ, *, id_block: int | None = None, as_json: bool = False) -> int:
    return cutover.run(Given(environ, NOWHERE), id_block=id_block, as_json=as_json)


def undo(environ: Environ, *, force: bool = False) -> int:
    return cutover.undo(Given(environ, NOWHERE), force=force)


def identities(environ: Environ) -> list[dict[str, Any]]:
    found = []
    for path in shard_files(environ):
        with closing(sqlite3.connect(path)) as database:
            database.row_factory = sqlite3.Row
            found += [dict(row) for row in database.execute("SELECT * FROM _etl_identity")]
    return found


def ids_of(environ: Environ) -> list[int]:
    ids = []
    for path in shard_files(environ):
        with closing(sqlite3.connect(path)) as database:
            ids += [row[0] for row in database.execute("SELECT id FROM clients")]
    return ids


def write(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def lose_shard(_: Workplace, environ: Environ) -> None:
    shard_files(environ)[1].unlink()


def rebuild_shard(place: Workplace, environ: Environ) -> None:
    lose_shard(place, environ)
    assert migrate(environ) == 0


def find_difference(_: Workplace, environ: Environ) -> None:
    write(shard_files(environ)[0], "UPDATE clients SET note = 'x'")
    assert verify.run(environ) == 4


def open_again(_: Workplace, environ: Environ) -> None:
    assert seal(environ) == 0
    write(shard_files(environ)[0], "INSERT INTO clients (id, k) VALUES (99999, '+4')")
    assert undo(environ, force=True) == 0
    assert "proved" not in ran("etl.status", environ).out


def be_killed(_: Workplace, environ: Environ) -> None:
    shard_files(environ)[0].with_name(shard_files(environ)[0].name + "-journal").write_bytes(b"x" * 512)


def in_wal(place: Workplace, environ: Environ) -> None:
    place.script("PRAGMA journal_mode = WAL")
    assert verify.run(environ) == 0
    assert check(environ) == 0
    place.script("UPDATE clients SET note = 'm' WHERE id = 1")


def without_wal(place: Workplace) -> Any:
    """All files but those that any reader of a source in WAL mode creates."""
    return snapshot(path for path in place.root.rglob("*") if path.suffix not in {".db-wal", ".db-shm"})


AGAINST: dict[str, tuple[Callable[[Workplace, Environ], object], list[str]]] = {
    "a new row": (
        lambda place, _: place.script("INSERT INTO clients (k) VALUES ('+1')"),
        ["1 rowid to load", "found a later one"],
    ),
    "a changed row": (lambda place, _: place.script("UPDATE clients SET note = 'm'"), ["found a later one"]),
    "a changed row in WAL mode": (in_wal, ["found a later one"]),
    "a new column": (
        lambda place, _: place.script("ALTER TABLE clients ADD COLUMN more"),
        ["the source has a new column more", "found a later one"],
    ),
    "no verification": (
        lambda place, _: next(place.shards.glob("*_verifications.jsonl")).unlink(),
        ["expected a verification that found all rows equal, found none"],
    ),
    "an index to build": (
        lambda _, environ: write(shard_files(environ)[2], "DROP INDEX idx_clients_note"),
        ["expected all indexes", SHARDS_CHANGED],
    ),
    "a lost shard": (lose_shard, ["found no file of shard 1; run migrate", SHARDS_CHANGED]),
    "a shard that was loaded later": (rebuild_shard, [SHARDS_CHANGED, "shard 1 was loaded later"]),
    "a later difference": (
        find_difference,
        [SHARDS_CHANGED, "found a verification with differences"],
    ),
    "shards that were opened again": (
        open_again,
        [SHARDS_CHANGED, "found a cutover --undo --force"],
    ),
    "a killed run": (be_killed, ["found one in the middle of a transaction, or a damaged one"]),
    "a row that is gone from a shard": (
        lambda _, environ: write(
            shard_files(environ)[0], "DELETE FROM clients WHERE id IN (SELECT id FROM clients LIMIT 1)"
        ),
        [SHARDS_CHANGED],
    ),
    "no source": (lambda place, _: place.source.unlink(), ["found no file of that name"]),
    "other settings": (
        lambda _, environ: environ.update(NUM_SHARDS="2"),
        ["shard_00.db and 2 more: made under other settings"],
    ),
}


@pytest.mark.parametrize("against", AGAINST)
def test_it_refuses_with_every_reason_and_writes_nothing(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], against: str
) -> None:
    environ = proved(workplace)
    assert check(environ) == 0
    act, reasons = AGAINST[against]
    act(workplace, environ)
    capsys.readouterr()
    before = without_wal(workplace)
    assert check(environ) == 2
    assert without_wal(workplace) == before
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(reasons), errors
    assert [reason for reason, line in zip(reasons, errors, strict=True) if reason not in line] == []
    shards = snapshot(shard_files(environ))
    assert seal(environ) == 2
    assert snapshot(shard_files(environ)) == shards


def test_a_refresh_that_compared_all_rows_is_a_proof(workplace: Workplace) -> None:
    environ = proved(workplace)
    workplace.script("UPDATE clients SET note = 'm' WHERE id < 9")
    assert check(environ) == 2
    assert run(environ, refresh=Refresh()) == 0
    assert run(environ, refresh=Refresh()) == 0
    assert seal(environ) == 0


def test_a_seal_is_in_every_shard_with_ids_of_its_own(workplace: Workplace) -> None:
    environ = proved(workplace)
    assert seal(environ) == 0
    found = identities(environ)
    assert len({each["sealed_at"] for each in found}) == 1
    assert {each["format_version"] for each in found} == {2}
    assert found[0]["first_id"] == ROWS + 1
    assert all(each["last_id"] - each["first_id"] == 2**40 - 1 for each in found)
    assert all(one["last_id"] + 1 == other["first_id"] for one, other in pairwise(found))
    shards = snapshot(shard_files(environ))
    assert (check(environ), seal(environ), snapshot(shard_files(environ))) == (0, 0, shards)
    assert [line["shard"] for line in log_events(workplace, "sealed")] == [0, 1, 2, 3]


def test_after_the_seal_nothing_writes_to_the_shards(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    environ = proved(workplace)
    assert seal(environ) == 0
    workplace.script("INSERT INTO clients (k) VALUES ('+1')", "ALTER TABLE clients ADD COLUMN more")
    shards = snapshot(shard_files(environ))
    capsys.readouterr()
    codes = [
        run(environ),
        run(environ, refresh=Refresh()),
        run(environ, evolve=True, force=True),
        verify.run(environ, repair=True, force=True),
    ]
    errors = capsys.readouterr().err
    assert codes == [2] * 4
    assert errors.count("error: SHARD_DIR=") == errors.count("the shards are sealed since") == 4
    plan = ran("etl.migrate", environ, "--plan")
    assert plan.code == 2
    assert "the shards are sealed since" in plan.err
    assert snapshot(shard_files(environ)) == shards


def test_status_metrics_and_a_verification_show_the_seal(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = proved(workplace)
    metrics = workplace.root / "run.prom"
    assert 'sealed_timestamp_seconds{table="clients"} 0.0' in metrics.read_text()
    assert seal(environ) == 0
    assert 'sealed_timestamp_seconds{table="clients"} 1.' in metrics.read_text()
    assert migrate(environ) == 2
    assert 'sealed_timestamp_seconds{table="clients"} 1.' in metrics.read_text()
    assert "  sealed: " in ran("etl.status", environ).out
    assert ran("etl.report", environ).code == 0
    assert "<strong>Sealed 20" in (workplace.shards / "report.html").read_text(encoding="utf-8")
    said = Verifier(capsys)(environ)
    assert (said["outcome"], said["sealed_at"]) == ("equal", identities(environ)[0]["sealed_at"])
    write(shard_files(environ)[0], "INSERT INTO clients (id, k) VALUES (99999, '+4')")
    text = ran("etl.verify", environ)
    assert text.code == 4
    assert "ahead of it by right" in " ".join(text.out.split())
    assert "--repair" not in text.out
    assert undo(environ, force=True) == 0
    assert 'sealed_timestamp_seconds{table="clients"} 0.0' in metrics.read_text()


@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("function", ["seal", "unseal"])
def test_a_cut_over_that_was_killed_is_completed_by_the_next(workplace: Workplace, function: str, nth: int) -> None:
    environ = proved(workplace)
    if function == "unseal":
        assert seal(environ) == 0
    command = [sys.executable, "-c", KILL, function, str(nth)]
    code = subprocess.run(command, env=environ | {"PYTHONPATH": str(REPOSITORY)}, check=False).returncode
    assert code == -9
    sealed = [each.get("sealed_at") is not None for each in identities(environ)]
    done = nth - 1
    assert sealed == (
        [True] * done + [False] * (4 - done) if function == "seal" else [False] * done + [True] * (5 - nth)
    )
    assert migrate(environ) == (2 if any(sealed) else 0)
    begun = identities(environ)[0]
    # An application may have begun to write to the shards that are sealed.
    if function == "seal" and sealed[0]:
        write(shard_files(environ)[0], f"INSERT INTO clients (id, k) VALUES ({begun['first_id']}, '+4')")
    if function == "unseal":
        assert undo(environ) == 0
        assert migrate(environ) == 0
        assert differences(environ) == []
        return
    assert seal(environ) == 0
    found = identities(environ)
    assert done == 0 or found[0] == begun
    assert all(one["last_id"] + 1 == other["first_id"] for one, other in pairwise(found))


def test_undo_opens_shards_that_are_equal_to_the_source_and_runs_follow_it_again(workplace: Workplace) -> None:
    environ = proved(workplace, AUTOINCREMENT)
    before = identities(environ)
    assert undo(environ) == 0
    assert seal(environ) == 0
    assert undo(environ) == 0
    assert identities(environ) == before
    workplace.script("INSERT INTO clients (k) VALUES ('+1')")
    assert migrate(environ) == 0
    assert differences(environ) == []
    assert verify.run(environ) == 0
    assert seal(environ) == 0


def test_undo_refuses_where_rows_differ_unless_it_is_forced(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = proved(workplace)
    assert seal(environ) == 0
    write(shard_files(environ)[0], "UPDATE clients SET note = 'x' WHERE id IN (SELECT id FROM clients LIMIT 3)")
    workplace.script("INSERT INTO clients (k) VALUES ('+1')")
    shards = snapshot(shard_files(environ))
    capsys.readouterr()
    assert undo(environ) == 2
    assert "found 4 rows with differences" in capsys.readouterr().err
    assert snapshot(shard_files(environ)) == shards
    assert undo(environ, force=True) == 0
    assert {each["format_version"] for each in identities(environ)} == {1}


def test_without_the_source_sealed_shards_are_sealed_and_may_be_opened_again(workplace: Workplace) -> None:
    environ = proved(workplace)
    assert seal(environ) == 0
    workplace.source.unlink()
    assert (check(environ), seal(environ)) == (0, 0)
    assert undo(environ) == 2
    assert undo(environ, force=True) == 0
    assert check(environ) == 2


def test_metrics_that_cannot_be_written_are_written_by_the_next(workplace: Workplace) -> None:
    environ = proved(workplace)
    assert seal(environ | {"METRICS_FILE": str(workplace.root / "nowhere" / "run.prom")}) == 1
    metrics = workplace.root / "run.prom"
    assert 'sealed_timestamp_seconds{table="clients"} 0.0' in metrics.read_text()
    assert seal(environ) == 0
    assert 'sealed_timestamp_seconds{table="clients"} 1.' in metrics.read_text()


@pytest.mark.parametrize(
    ("ddl", "id_block", "warning"),
    [
        (TABLE, None, "an id of another shard; take ids from etl.next_ids"),
        (TABLE, 0, "let the application choose ids"),
        (AUTOINCREMENT, 0, "let the application choose ids"),
        (AUTOINCREMENT, 100, "does not stop at the end of a range of 100 ids"),
        (AUTOINCREMENT, None, None),
    ],
)
def test_ids_that_two_shards_may_give_are_a_warning(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], ddl: str, id_block: int | None, warning: str | None
) -> None:
    environ = proved(workplace, ddl)
    capsys.readouterr()
    assert cutover.check(Given(environ, NOWHERE), id_block=id_block) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "SQLite" in line]
    assert [str(warning) in line for line in said] == ([True] if warning else [])


def test_an_id_that_autoincrement_gave_before_an_undo_is_not_given_again(workplace: Workplace) -> None:
    environ = proved(workplace, AUTOINCREMENT)
    assert seal(environ) == 0
    given = []
    for path in shard_files(environ):
        with closing(sqlite3.connect(path)) as database, database:
            given.append(database.execute("INSERT INTO clients (k) VALUES ('+2')").lastrowid)
            database.execute("DELETE FROM clients WHERE id = ?", given[-1:])
    assert (undo(environ), verify.run(environ), seal(environ)) == (0, 0, 0)
    for path in shard_files(environ):
        with closing(sqlite3.connect(path)) as database, database:
            given.append(database.execute("INSERT INTO clients (k) VALUES ('+2')").lastrowid)
    assert len(set(given)) == len(given)


def test_autoincrement_goes_on_in_the_range_of_each_shard(workplace: Workplace) -> None:
    """Also above an id that was deleted in the source: AUTOINCREMENT gives none twice."""
    workplace.script(AUTOINCREMENT, "INSERT INTO clients (id, k) VALUES (5000, '+1')", "DELETE FROM clients")
    environ = proved(workplace, AUTOINCREMENT.replace("TABLE", "TABLE IF NOT EXISTS"))
    assert seal(environ, id_block=100) == 0
    new = []
    for path in shard_files(environ):
        with closing(sqlite3.connect(path)) as database, database:
            new += [database.execute("INSERT INTO clients (k) VALUES ('+2')").lastrowid for _ in range(3)]
    first = 5000 + ROWS + 1
    assert new == [first + 100 * slot + i for slot in range(4) for i in range(3)]
    assert len(ids_of(environ)) == len(set(ids_of(environ)))


@pytest.mark.parametrize("greatest", [2**63 - 1, 2**63 - 400])
def test_ids_never_reach_beyond_the_last_one(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], greatest: int
) -> None:
    workplace.script(TABLE, f"INSERT INTO clients (id, k) VALUES ({greatest}, '+1')")
    environ = workplace.environ(INDEX_COLUMNS="")
    assert (migrate(environ), verify.run(environ)) == (0, 0)
    shards = snapshot(shard_files(environ))
    assert seal(environ) == 2
    assert "choose a smaller number, or 0 for no ranges" in capsys.readouterr().err
    assert snapshot(shard_files(environ)) == shards
    most = (2**63 - 1 - greatest) // 4
    assert check(environ) == seal(environ, id_block=most + 1) == 2
    assert seal(environ, id_block=most) == 0
    assert identities(environ)[-1]["last_id"] == (greatest + 4 * most if most else None)


def test_the_answer_of_check_as_json(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    environ = proved(workplace)
    capsys.readouterr()
    assert cutover.check(Given(environ, NOWHERE), as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ready"], said["sealed"], said["shards"], said["refusals"]) == (True, False, [], [])
    assert seal(environ, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ready"], said["sealed"]) == (True, True)
    assert [each["shard"] for each in said["shards"]] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("rest", "named"),
    [
        ("mail TEXT UNIQUE", ["mail"]),
        ("mail TEXT, UNIQUE (mail, note)", ["mail and note"]),
        ("mail TEXT, UNIQUE (mail, k)", []),
        ("mail TEXT, UNIQUE (k COLLATE NOCASE)", ["k"]),
        ("mail TEXT PRIMARY KEY", ["mail"]),
        ("mail TEXT", []),
    ],
)
def test_unique_values_that_two_shards_may_have_are_named(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], rest: str, named: list[str]
) -> None:
    workplace.script(f"CREATE TABLE clients (k TEXT, note TEXT, {rest})", "INSERT INTO clients (k) VALUES ('+1')")
    environ = workplace.environ()
    plan = ran("etl.migrate", environ, "--plan")
    assert (migrate(environ), verify.run(environ)) == (0, 0)
    capsys.readouterr()
    assert check(environ) == 0
    for said in (plan.out, capsys.readouterr().err):
        told = [line.rpartition(": ")[2] for line in said.splitlines() if "UNIQUE values" in line]
        assert told == named
    assert verify.run(environ, scope=Scope(quick=True)) == 0


def test_a_shard_of_a_later_format_is_refused_with_its_number(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = proved(workplace)
    write(shard_files(environ)[1], "UPDATE _etl_identity SET format_version = 7")
    assert (migrate(environ), check(environ)) == (2, 2)
    assert capsys.readouterr().err.count("found format 7; a later version of shard-migrate wrote it") == 2
