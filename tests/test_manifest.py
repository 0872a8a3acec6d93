"""The manifest over many runs: few files, each window once; files of others stay."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from etl import status, verify
from tests.completeness import faults_of
from tests.workplace import Workplace, differences, migrate, snapshot


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
