"""The manifest over many runs: few files, each window once; files of others stay."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from etl.status import command as status
from etl.status.command import rebuild_manifest
from etl.verify import command as verify
from etl.verify.scope import Scope
from tests.completeness import faults_of, manifest
from tests.damage import DAMAGES, ROWS, Damage, rewrite_manifest
from tests.verifier import Verifier
from tests.workplace import Workplace, differences, migrate, snapshot

OF_THE_MANIFEST = {name: damage for name, damage in DAMAGES.items() if name.endswith("manifest")}


def test_the_files_of_many_runs_become_one(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.shards.manifest._MOST_FILES", 5)
    environ = workplace.environ()
    most = 0
    for number in range(13):
        workplace.populate(10, first=1 + 10 * number, seed=number)
        assert migrate(environ) == 0
        files = list((workplace.shards / "manifest").iterdir())
        most = max(most, len(files))
    assert most == 5
    manifest = pl.read_parquet(files)
    assert manifest["rows"].sum() == 130
    assert manifest["first_rowid"].is_unique().all()
    assert manifest["run_id"].n_unique() == 13
    assert differences(environ) == []


def noise(_: Path, path: Path) -> None:
    path.write_bytes(b"noise" * 99)


def a_shard(shards: Path, path: Path) -> None:
    shutil.copy(shards / "clients_shard_00.db", path)


def another_table(shards: Path, path: Path) -> None:
    (part,) = (shards / "manifest").glob("*.parquet")
    pl.read_parquet(part).with_columns(table_name=pl.lit("goods")).write_parquet(path)


def other_columns(shards: Path, path: Path) -> None:
    (part,) = (shards / "manifest").glob("*.parquet")
    pl.read_parquet(part).with_columns(of_mine=1).write_parquet(path)


FOREIGN = ("mine.parquet", "mended-0.tmp", "20260101T000000.000000Z-1.tmp", "mine.db")


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("make", [noise, a_shard, another_table, other_columns])
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_file_of_someone_elses_beside_the_manifest_stays(
    workplace: Workplace, make: Callable[[Path, Path], None], name: str, *, is_lost: bool
) -> None:
    workplace.populate(300)
    environ = workplace.environ()
    assert migrate(environ) == 0
    directory = workplace.shards / "manifest"
    foreign = directory / name
    make(workplace.shards, foreign)
    before = snapshot([foreign])
    for _ in range(2):  # it is no part of the manifest, so nothing is mended for its sake
        ours = set(directory.iterdir()) - {foreign}
        assert migrate(environ) == 0
        assert set(directory.iterdir()) - {foreign} == ours
    if is_lost:
        for path in ours:
            path.unlink()
    workplace.populate(100, first=301)
    assert [migrate(environ), verify.run(environ), status.rebuild_manifest(environ)] == [0, 0, 0]
    assert snapshot([foreign]) == before
    foreign.unlink()
    assert faults_of(environ) == []


@pytest.mark.parametrize("damage", OF_THE_MANIFEST.values(), ids=OF_THE_MANIFEST.keys())
def test_a_rebuilt_manifest_is_sound_whatever_was_edited_in_it(
    migrated: dict[str, str], verify: Verifier, damage: Damage
) -> None:
    damage.apply(migrated)
    assert verify(migrated, Scope(quick=True))["differences"] == {"manifest": 1}
    assert rebuild_manifest(migrated, None) == 0
    assert verify(migrated, Scope(quick=True))["differences"] == {}
    assert faults_of(migrated) == []


def test_lines_keep_their_check_through_every_rewriting(
    workplace: Workplace, migrated: dict[str, str], verify: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.shards.manifest._MOST_FILES", 1)
    before = manifest(migrated).sort("first_rowid")
    assert before["check"].is_unique().all()
    workplace.populate(200, first=ROWS + 1)
    assert migrate(migrated) == 0  # makes all files one
    DAMAGES["a lost line in the manifest"].apply(migrated)
    assert verify(migrated, Scope(quick=True), repair=True)["exit_code"] == 0
    assert rebuild_manifest(migrated, None) == 0
    after = manifest(migrated).sort("first_rowid")
    assert after[1 : len(before)].equals(before[1:])
    assert after["check"].null_count() == 0
    assert verify(migrated, Scope(quick=True))["exit_code"] == 0


def test_lines_of_an_older_version_are_not_judged_and_the_next_run_gives_all_files_one_form(
    workplace: Workplace, migrated: dict[str, str], verify: Verifier
) -> None:
    rewrite_manifest(lambda frame: frame.drop("check"))(migrated)
    assert verify(migrated, Scope(quick=True))["exit_code"] == 0
    workplace.populate(200, first=ROWS + 1)
    assert migrate(migrated) == 0
    assert verify(migrated, Scope(quick=True))["exit_code"] == 0
    found = manifest(migrated)  # one pattern reads all files
    assert (found.height, found["check"].null_count()) == (ROWS // 100 + 2, ROWS // 100)
    assert faults_of(migrated) == []


def test_a_manifest_that_cannot_be_written_ends_the_run(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(2_000)
    workplace.shards.mkdir()
    monkeypatch.setattr("etl.migrate.commit_tracker._FLUSH_S", 0.0)
    (workplace.shards / "manifest").write_text("in the way")
    assert migrate(workplace.environ()) == 1
    assert "manifest" in capfd.readouterr().err
    (workplace.shards / "manifest").unlink()
    assert migrate(workplace.environ()) == 0
    assert differences(workplace.environ()) == []
