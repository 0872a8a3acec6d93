"""The cursor column: rows that were updated since the last run began are replaced.

Each update of a row raises its cell in this column. So a run takes the greatest cell first, loads new rows, and
replaces the old rows at or above the greatest cell of the last run. Then it keeps the new one, in
`SHARD_DIR/<TABLE_NAME>_cursor.json`. After a kill some rows are compared again, and none is left out. The shards cannot
say it themselves: a killed run may have loaded new rows, but not replaced the old ones. The file holds a cell of the
source, so it is kept beside the shards, for its owner only; the cell is in no message and no log.
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
from etl.sqlite.utf16 import utf8_converter

_BATCH_ROWS = 50_000
_READ: dict[str, Callable[[Any], Any]] = {
    "null": lambda _: None,
    "integer": lambda value: RowidRange(value, value).first_rowid,  # of 64 bits, as in SQLite
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
        rowids: RowidRange | None,
        *,
        run_id: str,
    ) -> None:
        """`rowids` are those of the source."""
        self._path = files.CURSOR.path(settings.SHARD_DIR, settings.TABLE_NAME)
        self._source = settings.SOURCE_DB
        self._table = table
        self._column = column.name
        self._shard_set = shard_set
        self._shards = shard_set.shards
        self._rowids = rowids
        self._run_id = run_id
        self._limit = RateLimit(settings.MAX_RATE)
        self._done: Coverage = ()
        self._before: Cell | None = None
        self._greatest: Cell | None = None
        self.replaced = 0
        """Rows that differed and were replaced."""

    @property
    def has_begun(self) -> bool:
        return self._greatest is not None

    def begin(self, done: Coverage) -> None:
        """Takes the greatest cell, before the run reads any row. `done` are the windows that the shards have.

        Without any, each row will be read later, so the cell is kept at once: this load may take several runs.
        """
        self._done = done
        self._before = self._read() if done else None
        comparison = self._comparison(None)
        with comparison.open() as source, comparison.reading_source():
            found = source.fetch(sql.greatest_cursor(self._table, self._column))
        self._greatest = found.column(0)[0].as_py(), found.column(1)[0].as_py()
        if not done:
            self._write(self._greatest)

    def follow(self, stop: threading.Event) -> bool:
        """Replaces the updated rows that differ; False if it was stopped before the end. Raises EtlError."""
        if not self._done or self._greatest is None:
            return True
        with utf8_converter(self._table.encoding) as utf8:
            comparison = self._comparison(utf8)
            with comparison.open() as source:
                self._note_updated(comparison, source)
                for piece in self._done:
                    for rowids in self._batches(source, piece):
                        self._limit.wait(len(rowids), lambda: not stop.is_set())
                        if stop.is_set():
                            return False
                        self.replaced += self._replace(comparison, rowids)
        if self.replaced:
            log.event("replaced", rows=self.replaced, reason="they were updated since the last run")
        if self._greatest != self._before:
            self._write(self._greatest)
        return True

    def _comparison(self, utf8: ToUtf8 | None) -> Comparison:
        return Comparison(self._source, self._table, self._shard_set.map, self._rowids, utf8)

    def _note_updated(self, comparison: Comparison, source: Connection) -> None:
        """Notes the rows at or above the greatest cell of the last run, or all where that is not known."""
        source.execute(sql.CREATE_CURSOR)
        source.execute(sql.CREATE_UPDATED)
        storage_class, value = self._before or ("null", None)
        if value is not None:
            source.executemany(sql.set_cursor(is_text=storage_class == "text"), pa.table({"value": [value]}))
        with comparison.reading_source():
            source.execute(sql.note_updated(self._table, self._column, is_open=value is None))

    def _batches(self, source: Connection, piece: RowidRange) -> Iterator[Numbers]:
        first: int | None = piece.first_rowid
        while first is not None:
            rest = RowidRange(first, piece.last_rowid)
            rowids = np.array(source.fetch(sql.updated(rest, rows=_BATCH_ROWS)).column(0), np.int64)
            if len(rowids):
                yield rowids
            is_last = len(rowids) < _BATCH_ROWS or int(rowids[-1]) == piece.last_rowid
            first = None if is_last else int(rowids[-1]) + 1

    def _replace(self, comparison: Comparison, rowids: Numbers) -> int:
        """Replaces those of these rows that are not in their own shard, and only there, with the same cells."""
        with comparison.open() as source:
            rows = comparison.chosen_rows(source, rowids)
        held, right, wrong = {}, [_NONE], [_NONE]
        for slot, found, states in self._states(comparison, rowids):
            is_home = np.isin(found, rows.rowids[rows.slots == slot])
            is_right = is_home & (states == SAME)
            foreign = self._foreign(slot, found[~is_home & (states == CHANGED)])
            held[slot] = np.setdiff1d(found, foreign)
            right.append(found[is_right])
            wrong.append(np.setdiff1d(found[~is_right], foreign))
        lacking = np.setdiff1d(rows.rowids, np.concatenate(right))
        differing = np.intersect1d(rows.rowids, np.union1d(lacking, np.concatenate(wrong)))
        if len(differing):
            replacement = Replacement(self._source, self._shards, comparison, run_id=self._run_id)
            replacement.replace(differing, {slot: np.intersect1d(of, differing) for slot, of in held.items()})
        return len(differing)

    def _states(self, comparison: Comparison, rowids: Numbers) -> Iterator[tuple[int, Numbers, Numbers]]:
        """Of each shard its slot, which of these rowids it has, and their states."""
        for start in range(0, len(self._shards), SHARDS_AT_ONCE):
            with comparison.open() as source:
                fill(source, rowids)
                for number, shard in enumerate(self._shards[start : start + SHARDS_AT_ONCE]):
                    comparison.attach(source, shard.path, number)
                    yield start + number, *comparison.chosen_states(source, shard.path, number, rowids)

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
