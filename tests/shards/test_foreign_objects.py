"""What other programs made in a shard: triggers stop whoever would write rows, and verify names everything."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from etl.verify.command import run
from etl.verify.scope import Scope
from tests.completeness import faults_of
from tests.damage import DAMAGES, ROWS, home, spoil
from tests.migrate.test_plan import plan_of
from tests.oracle import opened
from tests.verifier import Verifier
from tests.workplace import Workplace, error_line, migrate, shard_files

TRIGGERS = {
    "deletes after an insert": (
        "CREATE TRIGGER mine AFTER INSERT ON clients BEGIN DELETE FROM clients WHERE rowid = new.rowid - 1; END"
    ),
    "leaves rows out": "CREATE TRIGGER mine BEFORE INSERT ON CLIENTS BEGIN SELECT RAISE(IGNORE); END",
    "acts on deletes": "CREATE TRIGGER mine AFTER DELETE ON clients BEGIN DELETE FROM clients; END",
    "is of the ledger": "CREATE TRIGGER mine AFTER INSERT ON _etl_windows BEGIN DELETE FROM clients; END",
}
HARMLESS = (
    "CREATE TABLE theirs (a)",
    "CREATE INDEX theirs_a ON theirs (a)",
    "CREATE INDEX more ON clients (note)",
    "CREATE VIEW seen AS SELECT k FROM clients",
    "CREATE TRIGGER mine AFTER INSERT ON theirs BEGIN DELETE FROM clients; END",
    "CREATE TRIGGER clients INSTEAD OF INSERT ON seen BEGIN DELETE FROM clients; END",
)


def contents(path: Path) -> list[list[tuple[Any, ...]]]:
    with closing(opened(path)) as shard:
        return [shard.execute(f"SELECT rowid, * FROM {name}").fetchall() for name in ("clients", "_etl_windows")]


def load(environ: dict[str, str]) -> int:
    return migrate(environ)


def repair(environ: dict[str, str]) -> int:
    return run(environ, scope=Scope(quick=True), repair=True)


@pytest.mark.parametrize("write", [load, repair])
@pytest.mark.parametrize("trigger", TRIGGERS.values(), ids=TRIGGERS.keys())
def test_a_trigger_in_a_shard_stops_whoever_would_write_rows_before_anything_is_written(
    *,
    workplace: Workplace,
    migrated: dict[str, str],
    capfd: pytest.CaptureFixture[str],
    trigger: str,
    write: Callable[[dict[str, str]], int],
) -> None:
    path = home(migrated, 205)
    spoil(path, trigger)
    workplace.populate(100, first=ROWS + 1, seed=3)
    DAMAGES["a changed text"].apply(migrated)
    before = [contents(each) for each in shard_files(migrated)]
    assert write(migrated) == 2
    message = error_line(capfd.readouterr().err)
    assert f"{path}: expected no trigger on the tables that a run writes, found mine" in message
    assert [contents(each) for each in shard_files(migrated)] == before
    assert plan_of(migrated, code=2)["refusals"] == [message.removeprefix("error: ")]
    spoil(path, "DROP TRIGGER mine")
    assert [repair(migrated), load(migrated)] == [0, 0]
    assert faults_of(migrated) == []


@pytest.mark.parametrize(
    ("write", "step"), [(load, "etl.engines.local.load"), (repair, "etl.shards.replace.Replacement.replace")]
)
def test_a_trigger_made_in_the_last_moment_never_fires(
    *,
    workplace: Workplace,
    migrated: dict[str, str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[dict[str, str]], int],
    step: str,
) -> None:
    path = home(migrated, 205)
    workplace.populate(100, first=ROWS + 1, seed=3)
    DAMAGES["a changed text"].apply(migrated)
    before = contents(path)
    real = resolve_name(step)

    def made_meanwhile(*args: Any, **options: Any) -> Any:
        spoil(path, TRIGGERS["deletes after an insert"])
        return real(*args, **options)

    monkeypatch.setattr(step, made_meanwhile)
    assert write(migrated) == 1
    assert f"{path}: expected no trigger" in error_line(capfd.readouterr().err)
    assert contents(path) == before


def test_with_nothing_to_write_a_trigger_stops_nothing(migrated: dict[str, str]) -> None:
    spoil(shard_files(migrated)[0], TRIGGERS["leaves rows out"])
    assert load(migrated) == 0


def test_what_other_programs_made_is_named_and_is_no_difference(
    workplace: Workplace, migrated: dict[str, str], verify: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shard_files(migrated)[0]
    spoil(path, *HARMLESS)
    said = verify(migrated, Scope(quick=True))
    assert (said["exit_code"], said["outcome"], said["differences"], said["notes"]) == (0, "equal", {}, [])
    named = ("index more", "index theirs_a", "table theirs", "trigger clients", "trigger mine", "view seen")
    kinds = [name.split()[0] for name in named]
    assert sorted((each["kind"], each["place"]) for each in said["remarks"]) == [(kind, str(path)) for kind in kinds]
    assert run(migrated, scope=Scope(quick=True)) == 0
    said_to_people = " ".join(capsys.readouterr().out.split())
    assert all(f"{name}: no run with these settings creates it" in said_to_people for name in named)
    workplace.populate(100, first=ROWS + 1, seed=3)
    assert [load(migrated), repair(migrated)] == [0, 0]
    assert faults_of(migrated) == []


def test_the_sources_own_indexes_and_triggers_leave_no_note(workplace: Workplace, verify: Verifier) -> None:
    workplace.populate(ROWS)
    workplace.script(
        "CREATE INDEX own ON clients (k)",
        "CREATE TRIGGER own_too AFTER INSERT ON clients BEGIN DELETE FROM clients WHERE rowid < 0; END",
    )
    environ = workplace.environ(INDEX_COLUMNS="INN")
    assert migrate(environ) == 0
    assert verify(environ)["remarks"] == []
