"""The cursor column: rows that were updated since the last run began are replaced.

Each update of a row raises its cell in this column. So a run takes the greatest cell first, replaces the rows at or
above the greatest one of the last run, and then keeps the new one, in `SHARD_DIR/<TABLE_NAME>_cursor.json`. After a
kill some rows are compared again, and none is left out. The shards cannot say it themselves: a killed run may have
loaded new rows, but not replaced the old ones. The file holds a cell of the source, so it is kept beside the shards,
for its owner only; the cell is in no message and no log.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from etl.core.errors import EtlError, Refused
from etl.core.model import Column, RowidRange, Table, folded
from etl.core.partition import ToUtf8
from etl.core.ranges import Coverage
from etl.runtime import files, log
from etl.runtime.rate_limit import RateLimit
from etl.runtime.settings import Settings
from etl.shards import sql
from etl.shards.comparison import CHANGED, SAME, SHARDS_AT_ONCE, Comparison, fill
from etl.shards.ledger_arrays import Numbers
from etl.shards.replace import Replacement
from etl.shards.shard_set import ConfiguredShardSet
from etl.sqlite.adbc import Connection

_BATCH_ROWS = 50_000
_READ: dict[str, Callable[[Any], Any]] = {
    "null": lambda _: None,
    "integer": int,
    "real": float.fromhex,
    "text": bytes.fromhex,
    "blob": bytes.fromhex,
}
"""Storage class → how its value in the file is read."""
_NONE = np.empty(0, np.int64)

Cell = tuple[str, Any]
"""Storage class and value; a text as its bytes."""


def column_of(table: Table, name: str) -> Column:
    """Raises Refused unless the table has such a column, which an update can raise."""
    named = {folded(column.name): column for column in table.columns}
    column = named.get(folded(name))
    if column is None:
        names = ", ".join(column.name for column in table.columns)
        raise Refused(f"TABLE_NAME={table.name}, CURSOR_COLUMN={name}: expected a column of it, found only: {names}")
    if column.name == table.rowid_column:
        raise Refused(
            f"TABLE_NAME={table.name}, CURSOR_COLUMN={name}: expected a column that every update raises, found the "
            "rowid; choose another, or unset it"
        )
    return column


class Cursor:
    """The updates of one table, by its cursor column."""

    def __init__(
        self,
        settings: Settings,
        table: Table,
        column: Column,
        shard_set: ConfiguredShardSet,
        *,
        rowids: RowidRange | None,
        utf8: ToUtf8 | None,
        run_id: str,
    ) -> None:
        """Takes `rowids` and `utf8` as `Comparison` does."""
        self._path = files.CURSOR.path(settings.SHARD_DIR, settings.TABLE_NAME)
        self._table = table
        self._column = column.name
        self._comparison = Comparison(settings.SOURCE_DB, table, shard_set.map, rowids, utf8)
        self._shards = shard_set.shards
        self._replacement = Replacement(settings.SOURCE_DB, shard_set.shards, self._comparison, run_id=run_id)
        self._limit = RateLimit(settings.MAX_RATE)
        self.replaced = 0
        """Rows that differed and were replaced."""

    def follow(self, done: Coverage, *, is_whole: bool, stop: threading.Event) -> bool:
        """Replaces the updated rows in these windows that differ; False if it was stopped before the end.

        At the end the greatest cell is kept, if all windows were compared (`is_whole`): those that a lost shard lacks
        are loaded later, so the next run has to compare the same rows again. Raises EtlError.
        """
        before = self._read() if done else None
        with self._comparison.open() as source:
            greatest = self._note_updated(source, before, is_empty=not done)
            for piece in done:
                for rowids in self._batches(source, piece):
                    self._limit.wait(len(rowids), lambda: not stop.is_set())
                    if stop.is_set():
                        return False
                    self.replaced += self._replace(rowids)
        if self.replaced:
            log.event("replaced", rows=self.replaced, reason="they were updated since the last run")
        if is_whole and greatest != before:
            self._write(greatest)
        return True

    def _note_updated(self, source: Connection, before: Cell | None, *, is_empty: bool) -> Cell:
        """Notes the rows at or above `before`, or all; returns the greatest cell of the same moment."""
        source.execute(sql.CREATE_CURSOR)
        source.execute(sql.CREATE_UPDATED)
        storage_class, value = before or ("null", None)
        if value is not None:
            source.executemany(sql.set_cursor(is_text=storage_class == "text"), pa.table({"value": [value]}))
        with self._comparison.reading_source():
            source.execute("BEGIN")
            found = source.fetch(sql.greatest_cursor(self._table, self._column))
            if not is_empty:
                source.execute(sql.note_updated(self._table, self._column, is_open=value is None))
            source.execute("COMMIT")
        return found.column(0)[0].as_py(), found.column(1)[0].as_py()

    def _batches(self, source: Connection, piece: RowidRange) -> Iterator[Numbers]:
        first: int | None = piece.first_rowid
        while first is not None:
            rest = RowidRange(first, piece.last_rowid)
            rowids = np.array(source.fetch(sql.updated(rest, rows=_BATCH_ROWS)).column(0), np.int64)
            if len(rowids):
                yield rowids
            is_last = len(rowids) < _BATCH_ROWS or int(rowids[-1]) == piece.last_rowid
            first = None if is_last else int(rowids[-1]) + 1

    def _replace(self, rowids: Numbers) -> int:
        """Replaces those of these rows that are not in their own shard, and only there, with the same cells."""
        with self._comparison.open() as source:
            rows = self._comparison.chosen_rows(source, rowids)
        held, right, wrong = {}, [_NONE], [_NONE]
        for slot, found, states in self._states(rowids):
            is_home = np.isin(found, rows.rowids[rows.slots == slot])
            is_right = is_home & (states == SAME)
            foreign = self._foreign(slot, found[~is_home & (states == CHANGED)])
            held[slot] = np.setdiff1d(found, foreign)
            right.append(found[is_right])
            wrong.append(np.setdiff1d(found[~is_right], foreign))
        lacking = np.setdiff1d(rows.rowids, np.concatenate(right))
        differing = np.intersect1d(rows.rowids, np.union1d(lacking, np.concatenate(wrong)))
        if len(differing):
            self._replacement.replace(differing, {slot: np.intersect1d(of, differing) for slot, of in held.items()})
        return len(differing)

    def _states(self, rowids: Numbers) -> Iterator[tuple[int, Numbers, Numbers]]:
        """Of each shard its slot, which of these rowids it has, and their states."""
        for start in range(0, len(self._shards), SHARDS_AT_ONCE):
            with self._comparison.open() as source:
                fill(source, rowids)
                for number, shard in enumerate(self._shards[start : start + SHARDS_AT_ONCE]):
                    self._comparison.attach(source, shard.path, number)
                    yield start + number, *self._comparison.chosen_states(source, shard.path, number, rowids)

    def _foreign(self, slot: int, rowids: Numbers) -> Numbers:
        """Those of a shard's rows that no run wrote: they stay."""
        if not len(rowids):
            return rowids
        with self._shards[slot].opened() as connection:
            fill(connection, rowids)
            return np.array(connection.fetch(sql.foreign(self._table)).column(0), np.int64)

    def _read(self) -> Cell | None:
        """The greatest cell when the last run began; None where it is not known, so that all rows are compared."""
        try:
            kept = json.loads(self._path.read_bytes())
            if kept["cursor_column"] != self._column:
                log.event("cursor", restart="CURSOR_COLUMN has changed; all rows are compared")
                return None
            storage_class = str(kept["storage_class"])
            return storage_class, _READ[storage_class](kept["value"])
        except FileNotFoundError:
            log.event("cursor", restart=f"there is no {self._path.name}; all rows are compared")
        except (OSError, ValueError, TypeError, KeyError):
            log.event("cursor", "WARNING", restart=f"{self._path} cannot be read; all rows are compared")
        return None

    def _write(self, cell: Cell) -> None:
        storage_class, value = cell
        text = value.hex() if isinstance(value, float | bytes) else value  # exact, and no text that is no UTF-8
        kept = {"cursor_column": self._column, "storage_class": storage_class, "value": text}
        try:
            files.replace(self._path, json.dumps(kept).encode(), durable=True)
        except OSError as error:
            raise EtlError(f"{self._path}: cannot be written ({error.strerror}); fix the cause and run again") from None
