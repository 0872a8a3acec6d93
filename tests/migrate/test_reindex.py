"""The indexes in later runs: kept while few rows are added, dropped and built again for many."""

import pytest

from etl.runtime import limits
from tests.completeness import faults_of
from tests.workplace import Workplace, log_events, migrate

ROWS = 2_000


@pytest.mark.parametrize(
    ("new_rows", "times"), [(int(ROWS * limits.REINDEX_GROWTH * 0.9), 0), (int(ROWS * limits.REINDEX_GROWTH * 1.1), 1)]
)
def test_indexes_are_built_again_when_many_rows_are_new(workplace: Workplace, new_rows: int, times: int) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    workplace.populate(new_rows, first=ROWS + 1, seed=3)
    assert migrate(environ) == 0
    assert len(log_events(workplace, "reindex")) == times
    assert faults_of(environ) == []
