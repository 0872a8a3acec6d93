"""A repair: the windows that differ are written again in the shards concerned, ledger line and all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime

import numpy as np
import numpy.typing as npt

from etl.core import partition, ranges
from etl.core.columns import ROWID
from etl.core.errors import Refused
from etl.core.model import MAX_ROWID, MIN_ROWID, RowidRange
from etl.runtime import limits, log
from etl.shards import ledger
from etl.shards.manifest import Entry
from etl.shards.shard_set import Fleet
from etl.shards.transaction import Transaction
from etl.sources.reader import Source
from etl.sources.row_stream import Portion, of_source
from etl.sqlite import sql
from etl.sqlite.utf16 import utf8_converter
from etl.verify.checker import Stopped
from etl.verify.ledgers import Register
from etl.verify.result import Result
from etl.verify.shard_reader import Witness

FEW_ROWS = 1_000
"""A repair replaces or deletes so many rows of the shards in any case …"""
SMALL_SHARE = 0.1
"""… and up to this share of them. Where more differ, the source may be another file, and the shards the only copy."""
_REPLACED = ("extra", "changed", "misplaced", "duplicated")
"""Kinds of rows that a repair takes from a shard. Missing rows do not count: to write them destroys nothing."""


class Mend:
    """Mends what one verification found, as far as rows, ledgers, indexes and the manifest go; whole files are not."""

    def __init__(
        self,
        source: Source,
        fleet: Fleet,
        *,
        run_id: str,
        stop: threading.Event,
        force: bool = False,
    ) -> None:
        self._source = source
        self._fleet = fleet
        self._map = fleet.map
        self._run_id = run_id
        self._stop = stop
        self._force = force

    def run(self, result: Result) -> frozenset[RowidRange]:
        """Mends, one transaction a shard; the windows written again. Killed at any instant, it is repeated safely.

        Raises Refused, before anything is written, where a shard has a trigger, or where, unless forced, too many rows
        would be replaced or deleted for the source to be the right one; Stopped; EtlError.
        """
        findings = result.findings
        self._check_share(result)
        slots = sorted(
            (findings.windows.keys() | findings.strays | findings.headers | findings.sequences) - findings.unsound
        )
        for slot in slots:
            found = self._fleet.shards[slot].find(())
            self._fleet.shards[slot].refuse_triggers(found.triggers if found else ())
        size = limits.max_open_shards()
        for start in range(0, len(slots), size):
            self._rewrite(slots[start : start + size], result)
        for slot, wrong in findings.indexes.items():
            if slot not in findings.unsound:
                self._fleet.shards[slot].drop(wrong)
                self._fleet.shards[slot].finish(self._fleet.indexes, self._stop)
                log.event("indexed", shard=self._map.shards[slot], indexes=len(wrong))
        if not findings.unsound:
            self._mend_manifest(result.windows)
        return frozenset(result.grid.windows[position] for slot in slots for position in findings.windows.get(slot, ()))

    def _check_share(self, result: Result) -> None:
        counts = {kind: result.findings.rows[kind].count for kind in _REPLACED}
        limit = max(FEW_ROWS, int(result.shard_rows * SMALL_SHARE))
        if sum(counts.values()) <= limit:
            return
        complaint = (
            f"SOURCE_DB={self._source.path}: expected a repair to replace or delete at most {limit:,} of the shards' "
            f"{result.shard_rows:,} rows compared, found "
            + ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
        )
        if not self._force:
            raise Refused(
                f"{complaint}; check that it is the right source; if it is, --repair --force makes the shards like it"
            )
        log.event("forced", "WARNING", although=complaint)

    def _rewrite(self, slots: Sequence[int], result: Result) -> None:
        """Writes some shards' windows again. All goes before anything comes: a UNIQUE cell may have changed windows."""
        findings, windows = result.findings, result.grid.windows
        positions = {slot: np.array(sorted(findings.windows.get(slot, ())), np.int64) for slot in slots}
        with ExitStack() as stack:
            transactions: dict[int, Transaction] = {}
            for slot in slots:
                transactions[slot] = Transaction(self._fleet.shards[slot], cache_kib=limits.cache_kib(len(slots)))
                stack.callback(transactions[slot].close)
                wanted = ranges.union(windows[position] for position in positions[slot])
                self._clear(slot, transactions[slot], wanted, result)
            rows = {slot: np.zeros(len(positions[slot]), np.int64) for slot in slots}
            coverage = ranges.union(windows[position] for slot in slots for position in positions[slot])
            for portion in of_source(self._source, coverage):
                self._insert(portion, transactions, positions, rows, result)
            for slot, transaction in transactions.items():
                if self._stop.is_set():
                    raise Stopped
                for position, count in zip(positions[slot], rows[slot], strict=True):
                    transaction.note(windows[position], int(count))
                transaction.commit(self._run_id, log.now().isoformat())
                log.event(
                    "repaired", shard=self._map.shards[slot], windows=len(positions[slot]), rows=int(rows[slot].sum())
                )

    def _clear(self, slot: int, transaction: Transaction, wanted: ranges.Coverage, result: Result) -> None:
        table = self._source.table
        for piece in wanted:
            transaction.execute(sql.delete_rows(table, piece))
            transaction.execute(ledger.delete_windows(piece))
        if slot in result.findings.strays:
            for gap in ranges.subtract((RowidRange(MIN_ROWID, MAX_ROWID),), ranges.union(result.windows)):
                transaction.execute(sql.delete_rows(table, gap))
        if slot in result.findings.headers:
            transaction.execute(f"PRAGMA user_version = {table.user_version}")
            transaction.execute(f"PRAGMA application_id = {table.application_id}")
        if slot in result.findings.sequences:
            for statement in sql.set_sequence(table):
                transaction.execute(statement)

    def _insert(
        self,
        portion: Portion,
        transactions: dict[int, Transaction],
        positions: dict[int, npt.NDArray[np.int64]],
        rows: dict[int, npt.NDArray[np.int64]],
        result: Result,
    ) -> None:
        if self._stop.is_set():
            raise Stopped
        table = self._source.table
        with utf8_converter(table.encoding) as utf8:
            keys = partition.keys(portion.frame, table, portion.read_types, utf8=utf8)
        slots = partition.slots(keys, self._map)
        places = result.grid.place(portion.frame[ROWID].to_numpy())
        wanted = np.zeros(len(slots), np.bool_)
        for slot, of_slot in positions.items():
            here = (slots == slot) & np.isin(places, of_slot)
            rows[slot] += np.bincount(np.searchsorted(of_slot, places[here]), minlength=len(of_slot))
            wanted |= here
        partitioned = partition.split_by_shard(
            portion.frame.filter(wanted),
            keys.filter(wanted),
            table=table,
            read_types=portion.read_types,
            windows=[portion.stretch],
            shards=self._map,
        )
        for slot, transaction in transactions.items():
            transaction.insert(
                partitioned.of(slot),
                sql.insert(table, portion.read_types),
                breaks_not_null=partitioned.breaks_not_null,
            )

    def _mend_manifest(self, windows: Sequence[RowidRange]) -> None:
        """Gives the manifest, for the windows it has otherwise than the ledgers, the ledgers' word."""
        register = Register(self._fleet.manifest, windows, self._map.shards)
        for slot, shard in enumerate(self._fleet.shards):
            register.compare(slot, Witness(shard.path, self._source.table).look().ledger.rows_of(windows))
        wrong = register.wrong()
        if not wrong and register.is_sound:
            return
        right = ranges.subtract(register.done, ranges.union(windows[position] for position in wrong))
        self._fleet.manifest.mend(right, self._entries([windows[position] for position in wrong]))
        log.event("manifest", mended_windows=len(wrong))

    def _entries(self, windows: Sequence[RowidRange]) -> list[Entry]:
        lines: dict[RowidRange, list[tuple[int, int, str, str]]] = {window: [] for window in windows}
        right = ranges.subtract((RowidRange(MIN_ROWID, MAX_ROWID),), ranges.union(windows))
        for number, shard in zip(self._map.shards, self._fleet.shards, strict=True):
            for line in shard.windows_outside(right) if windows else ():
                lines[line.window].append((number, line.rows, line.run_id, line.committed_at))
        return [
            Entry(
                run_id=max(of_window, key=lambda line: line[3])[2],
                window=window,
                rows_by_shard=[line[:2] for line in of_window],
                committed_at=datetime.fromisoformat(max(line[3] for line in of_window)),
            )
            for window, of_window in lines.items()
        ]
