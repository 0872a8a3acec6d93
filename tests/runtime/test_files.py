"""No command replaces a file that this program did not write: the source, a shard, or any other."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from etl.migrate import command as migrate
from etl.report import command as report
from etl.status import command as status
from etl.verify import command as verify
from tests.commands import everything
from tests.completeness import faults_of
from tests.workplace import Workplace, error_line, shard_files, snapshot

Environ = dict[str, str]
COMMANDS: dict[str, Callable[[Environ], int]] = {
    "migrate": migrate.run,
    "plan": migrate.show_plan,
    "verify": verify.run,
    "rebuild": status.rebuild_manifest,
    "report": report.run,
}


def source_at(name: str) -> Callable[[Workplace], Environ]:
    """The source itself is there, in SHARD_DIR."""

    def place_it(place: Workplace) -> Environ:
        path = place.shards / name
        path.parent.mkdir(parents=True, exist_ok=True)
        place.source.rename(path)
        return place.environ(SOURCE_DB=path)

    return place_it


def link_at(name: str, link: Callable[[Path, Path], None]) -> Callable[[Workplace], Environ]:
    """A link to the source is there, in SHARD_DIR."""

    def place_it(place: Workplace) -> Environ:
        place.shards.mkdir()
        link(place.shards / name, place.source)
        return place.environ()

    return place_it


def metrics_at(path: str, link: Callable[[Path, Path], None] | None = None) -> Callable[[Workplace], Environ]:
    """METRICS_FILE is that path, perhaps a link to the source."""

    def place_it(place: Workplace) -> Environ:
        place.shards.mkdir()
        if link:
            link(place.root / path, place.source)
        return place.environ(METRICS_FILE=place.root / path)

    return place_it


def shards_behind_a_link(place: Workplace) -> Environ:
    place.shards.mkdir()
    (place.root / "link").symlink_to("shards")
    return place.environ(SHARD_DIR=place.root / "link", METRICS_FILE=place.shards / "clients_shard_01.db-wal")


def a_shard_behind_a_link(place: Workplace) -> Environ:
    place.shards.mkdir()
    (place.root / "elsewhere.db").touch()
    (place.shards / "clients_shard_01.db").symlink_to(place.root / "elsewhere.db")
    place.source.rename(place.root / "elsewhere.db-wal")
    return place.environ(SOURCE_DB=place.root / "elsewhere.db-wal")


ONE_FILE_FOR_TWO = {
    **{
        f"the source at {name}": source_at(name)
        for name in (
            "clients_status.json",
            "clients_verify.json",
            "clients_verifications.jsonl",
            ".etl-run.json",
            ".etl.lock",
            "report.html",
            "manifest",
            "manifest/x.parquet",
            "manifest/mended-0.parquet",
            "clients_shard_00.db",
            "clients_shard_01.db-wal",
            "clients_shard_02.db-journal",
            "clients_shard_03.db-shm",
        )
    },
    **{
        f"a {link.__name__.partition('_')[0]} to the source at {name}": link_at(name, link)
        for name in ("clients_status.json", ".etl.lock", "clients_shard_02.db", "clients_shard_02.db-journal")
        for link in (Path.symlink_to, Path.hardlink_to)
    },
    "METRICS_FILE is the source": metrics_at("source.db"),
    "METRICS_FILE is the source by another path": metrics_at("shards/../source.db"),
    "METRICS_FILE is the source's -wal": metrics_at("source.db-wal"),
    "METRICS_FILE is a symlink to the source": metrics_at("etl.prom", Path.symlink_to),
    "METRICS_FILE is a hard link to the source": metrics_at("etl.prom", Path.hardlink_to),
    "METRICS_FILE is a shard": metrics_at("shards/clients_shard_03.db"),
    "METRICS_FILE is a shard's -wal": metrics_at("shards/clients_shard_00.db-wal"),
    "METRICS_FILE is the status file": metrics_at("shards/clients_status.json"),
    "METRICS_FILE is the outcome of a verification": metrics_at("shards/clients_verify.json"),
    "METRICS_FILE is the lock": metrics_at("shards/.etl.lock"),
    "METRICS_FILE is the report": metrics_at("shards/report.html"),
    "METRICS_FILE is a shard's -wal by another path": shards_behind_a_link,
    "the source is the -wal of a shard that is elsewhere": a_shard_behind_a_link,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("arrange", ONE_FILE_FOR_TWO.values(), ids=ONE_FILE_FOR_TWO.keys())
def test_every_command_refuses_a_path_with_two_uses_before_it_writes(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], arrange: Callable[[Workplace], Environ], command: str
) -> None:
    workplace.populate(300)
    environ = arrange(workplace)
    before = everything(workplace)
    assert COMMANDS[command](environ) == 2
    assert everything(workplace) == before
    line = error_line(capfd.readouterr().err)
    assert "found two: " in line or "outside of SHARD_DIR/manifest" in line


UNUSED = ("clients_status.json.tmp", ".etl-run.tmp", "etl.prom.tmp", "manifest.parquet", "a.log")


@pytest.mark.parametrize("name", UNUSED)
def test_a_source_beside_the_programs_files_is_migrated_and_unchanged(workplace: Workplace, name: str) -> None:
    workplace.populate(300)
    environ = source_at(name)(workplace) | {"METRICS_FILE": str(workplace.shards / "etl.prom")}
    before = snapshot([workplace.shards / name])
    assert [migrate.run(environ), migrate.run(environ), verify.run(environ)] == [0, 0, 0]
    assert faults_of(environ) == []
    assert snapshot([workplace.shards / name]) == before


class Foreign(NamedTuple):
    """Another program's file at a path that these commands write."""

    path: str
    content: str
    commands: tuple[str, ...]


LIKE_A_STATUS = json.dumps({"table": "clients", "rows": 3})
FOREIGN = [
    *(Foreign("shards/clients_status.json", text, ("migrate", "plan")) for text in ("mine", "[]", LIKE_A_STATUS)),
    *(Foreign("shards/clients_verify.json", text, ("verify",)) for text in ("mine", '{"outcome": "of mine"}')),
    *(Foreign("shards/.etl-run.json", text, ("migrate", "plan", "verify", "rebuild")) for text in ("{}", '{"pid": 1}')),
    Foreign("shards/.etl.lock", "mine", ("migrate", "plan", "verify", "rebuild")),
    *(Foreign("shards/report.html", text, ("report",)) for text in ("mine", "<!doctype html><html lang='en'>shards")),
    *(
        Foreign("etl.prom", text, ("migrate", "plan", "verify"))
        for text in ("A=1", "# HELP node_load1 1m load average")
    ),
    Foreign("etl.prom/in", "a directory has the name", ("migrate", "plan", "verify")),
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_another_programs_file_is_not_replaced(
    workplace: Workplace, capfd: pytest.CaptureFixture[str], foreign: Foreign
) -> None:
    workplace.populate(300)
    environ = workplace.environ()
    assert migrate.run(environ) == 0
    environ |= {"METRICS_FILE": str(workplace.root / "etl.prom")}
    path = workplace.root / foreign.path
    path.parent.mkdir(exist_ok=True)
    path.write_text(foreign.content)
    for command in foreign.commands:
        before = everything(workplace)
        capfd.readouterr()
        assert COMMANDS[command](environ) == 2
        assert everything(workplace) == before
        assert "move it away, or choose another path" in error_line(capfd.readouterr().err)


@pytest.mark.parametrize("cut", [0, 5, 0.5])
def test_a_file_cut_off_by_a_power_cut_is_replaced(workplace: Workplace, cut: float) -> None:
    workplace.populate(300)
    environ = workplace.environ(METRICS_FILE=workplace.root / "etl.prom")
    assert [migrate.run(environ), verify.run(environ)] == [0, 0]
    names = ("clients_status.json", "clients_verify.json", ".etl-run.json", "../etl.prom")
    for path in (workplace.shards / name for name in names):
        content = path.read_bytes()
        path.write_bytes(content[: cut if isinstance(cut, int) else int(len(content) * cut)])
    assert [migrate.run(environ), verify.run(environ)] == [0, 0]
    assert json.loads((workplace.shards / "clients_status.json").read_text())["outcome"] == "nothing new"


def test_the_lock_file_of_a_disk_without_locks_is_accepted(workplace: Workplace) -> None:
    workplace.populate(300)
    workplace.shards.mkdir()
    (workplace.shards / ".etl.lock").write_text("4194305\nsome-host\n")  # as filelock leaves it there
    assert [migrate.run(workplace.environ()), verify.run(workplace.environ())] == [0, 0]


def test_temporary_files_of_killed_processes_are_removed_and_others_kept(workplace: Workplace) -> None:
    workplace.populate(300)
    environ = workplace.environ(METRICS_FILE=workplace.root / "metrics" / "etl.prom")
    directories = (workplace.shards, workplace.shards / "manifest", workplace.root / "metrics")
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
        for name in (f".etl-{2**22 + 1}-a_b1.tmp", ".etl-1-a_b1.tmp", ".etl-mine.tmp", "mine.tmp"):
            (directory / name).write_text("x")
    assert migrate.run(environ) == 0
    for directory in directories:
        left = sorted(path.name for path in directory.iterdir() if path.suffix == ".tmp")
        assert left == [".etl-1-a_b1.tmp", ".etl-mine.tmp", "mine.tmp"]


def test_the_demo_does_not_write_into_another_database(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    (workplace.root / "demo").mkdir()
    workplace.script("CREATE TABLE accounts (id)")
    workplace.source.rename(workplace.root / "demo" / "clients.db")
    before = everything(workplace)
    assert migrate.run_demo(100, workplace.root / "demo") == 2
    assert everything(workplace) == before
    assert "found another database; move it away" in error_line(capfd.readouterr().err)


def test_the_demo_does_not_write_into_its_own_shard(workplace: Workplace, capfd: pytest.CaptureFixture[str]) -> None:
    assert migrate.run_demo(100, workplace.root / "demo") == 0
    (workplace.root / "demo" / "clients.db").unlink()
    (workplace.root / "demo" / "clients.db").symlink_to("shards/clients_shard_03.db")
    before = everything(workplace)
    assert migrate.run_demo(200, workplace.root / "demo") == 2
    assert everything(workplace) == before
    assert "found two: SOURCE_DB and shard 3" in error_line(capfd.readouterr().err)


def test_a_log_never_appends_to_an_existing_file(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(300)
    assert migrate.run(workplace.environ()) == 0
    (log,) = (workplace.logs / "logs").iterdir()
    shards = snapshot(shard_files(workplace.environ()))
    started = log.stem.removeprefix("migration_")
    workplace.source.replace(log)
    before = snapshot([log])
    monkeypatch.setattr(
        "etl.runtime.log.now", lambda: datetime.strptime(started, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    )
    assert migrate.run(workplace.environ(SOURCE_DB=log)) == 2
    assert "the log cannot be written" in error_line(capfd.readouterr().err)
    assert snapshot([log]) == before
    assert snapshot(shard_files(workplace.environ())) == shards
    with closing(sqlite3.connect(log)) as database:
        assert database.execute("SELECT count(*) FROM clients").fetchone() == (300,)
