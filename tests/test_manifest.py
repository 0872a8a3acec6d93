"""The manifest over many runs: few files, each window once."""

import polars as pl
import pytest

from tests.workplace import Workplace, differences, migrate


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
