"""What a run asked connectorx, and what it got."""

from collections.abc import Sequence
from typing import Any

import connectorx
import pyarrow as pa
import pytest


class Reads:
    """Takes the place of `connectorx.read_sql`; keeps what was asked, and what came."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tables: list[pa.Table] = []
        self.queries: list[int] = []
        """How many queries each read of cells had."""
        self._read_sql: Any = connectorx.read_sql
        monkeypatch.setattr(connectorx, "read_sql", self)

    def __call__(self, uri: str, queries: Sequence[str], **options: Any) -> pa.Table:
        table = self._read_sql(uri, queries, **options)
        self.tables.append(table)
        if "c0" in table.column_names:
            self.queries.append(len(queries))
        return table

    def rows(self, *, of_cells: bool) -> int:
        """Rows of cells; or of what is asked before a read: samples, and sizes of rows."""
        return sum(table.num_rows for table in self.tables if ("c0" in table.column_names) is of_cells)
