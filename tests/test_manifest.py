"""The manifest over many runs: few files, each window once."""

import polars as pl
import pytest

from etl.status import rebuild_manifest
from etl.verification.scope import Scope
from tests.completeness import faults_of, manifest
from tests.damage import DAMAGES, ROWS, Damage, rewrite_manifest
from tests.verifier import Verifier
from tests.workplace import Workplace, differences, migrate

OF_THE_MANIFEST = {name: damage for name, damage in DAMAGES.items() if name.endswith("manifest")}


def test_the_files_of_many_runs_become_one(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.manifest._MOST_FILES", 5)
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
    monkeypatch.setattr("etl.manifest._MOST_FILES", 1)
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
