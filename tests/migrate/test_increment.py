"""What later runs do with indexes: kept up row by row for a few new rows, dropped and built anew for many."""

import json

import pytest

from etl.runtime import limits
from tests.completeness import faults_of
from tests.workplace import Workplace, migrate

ROWS = 2_000


def events(workplace: Workplace, name: str) -> list[dict[str, object]]:
    lines = [line for path in workplace.logs.glob("logs/*.log") for line in path.read_text().splitlines()]
    return [event for event in map(json.loads, lines) if event["event"] == name]


@pytest.mark.parametrize(
    ("new_rows", "times"), [(int(ROWS * limits.REINDEX_GROWTH * 0.9), 0), (int(ROWS * limits.REINDEX_GROWTH * 1.1), 1)]
)
def test_many_new_rows_have_the_indexes_built_anew(workplace: Workplace, new_rows: int, times: int) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    workplace.populate(new_rows, first=ROWS + 1, seed=3)
    assert migrate(environ) == 0
    assert len(events(workplace, "reindex")) == times
    assert faults_of(environ) == []
