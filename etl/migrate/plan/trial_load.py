"""A trial in memory: a sample of rows goes the way of a load, from the source into shards that have no files."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from etl.core import partition, ranges
from etl.core.columns import first_read_types
from etl.core.model import Index, ReadTask, RowidRange, Table
from etl.runtime import limits
from etl.runtime.settings import Settings
from etl.shards import ledger
from etl.sources.reader import Source
from etl.sqlite import sql
from etl.sqlite.adbc import Connection
from etl.sqlite.ddl import without_not_null
from etl.sqlite.utf16 import utf8_converter

_MEMORY = ":memory:"
_MOST_SLOTS = 16
"""Shards that are really written; the others' rows cost the same."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the sample took."""

    rows: int
    load_s: float
    """Seconds a row of the load, with all cores at work on it."""
    index_s: float
    """Seconds a row of the index builds, likewise."""
    row_bytes: float
    """What a row adds to a shard's file, its indexes included."""
    empty_bytes: int
    """A shard's file without rows."""


class _Stopwatch:
    """CPU seconds of all threads of this process, and those that passed, while its blocks ran."""

    def __init__(self) -> None:
        self.cpu_s = self.passed_s = 0.0

    def __enter__(self) -> None:
        self.cpu_s -= time.process_time()
        self.passed_s -= time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu_s += time.process_time()
        self.passed_s += time.perf_counter()


def run(settings: Settings, table: Table, pieces: Sequence[RowidRange], indexes: Sequence[Index]) -> Trial | None:
    """Moves the pieces' rows; None where they have none. Raises EtlError as a run would."""
    reading, routing, writing, indexing = (_Stopwatch() for _ in range(4))
    source = Source(settings.SOURCE_DB, table)
    slots = range(min(_MOST_SLOTS, len(settings.shard_map.shards)))
    read = written = 0
    read_types = first_read_types(table)
    with utf8_converter(table.encoding) as utf8, ExitStack() as stack:
        shards = [stack.enter_context(_empty(settings, table)) for _ in slots]
        for piece in pieces:
            with reading:
                task = ReadTask((piece,), ranges.cut_evenly(piece, -(-piece.span // settings.READERS)))
                result = source.read(task, read_types)
                frame, read_types = result.frame, result.read_types
            with routing:
                keys = partition.keys(frame, table, read_types, utf8=utf8)
                rows = partition.split_by_shard(
                    frame, keys, table=table, read_types=read_types, windows=(piece,), shards=settings.shard_map
                )
            read += rows.cells.num_rows
            with writing:
                for slot, shard in zip(slots, shards, strict=True):
                    shard.executemany(sql.insert(table, read_types), rows.of(slot))
                    written += rows.of(slot).num_rows
        with indexing:
            for shard in shards:
                _index(shard, indexes)
        full_bytes = sum(_bytes(shard) for shard in shards)
    if not written:
        return None
    empty_bytes = _empty_bytes(settings, table, indexes)
    cores = len(os.sched_getaffinity(0))
    hands = min(cores, settings.WRITERS)
    return Trial(
        rows=read,
        load_s=max(
            ((reading.cpu_s + routing.cpu_s) / read + writing.cpu_s / written) / cores,
            writing.cpu_s / written / hands,
            routing.passed_s / read,  # one thread routes
        ),
        index_s=indexing.cpu_s / written / hands,
        row_bytes=max(0.0, (full_bytes - empty_bytes * len(shards)) / written),
        empty_bytes=empty_bytes,
    )


def _empty(settings: Settings, table: Table) -> Connection:
    shard = Connection(Path(_MEMORY), cache_kib=limits.cache_kib(1), uri=_MEMORY)
    shard.pragma("encoding", f"'{table.encoding}'")
    shard.pragma("page_size", limits.page_bytes(settings.NUM_SHARDS))
    shard.pragma("temp_store", "MEMORY")
    # Rows that break NOT NULL are written all the same.
    for statement in (without_not_null(table.ddl), ledger.CREATE_IDENTITY, ledger.CREATE_WINDOWS):
        shard.execute(statement)
    return shard


def _index(shard: Connection, indexes: Sequence[Index]) -> None:
    for index in indexes:
        shard.execute(index.sql)


def _empty_bytes(settings: Settings, table: Table, indexes: Sequence[Index]) -> int:
    with _empty(settings, table) as shard:
        _index(shard, indexes)
        return _bytes(shard)


def _bytes(shard: Connection) -> int:
    return int(shard.pragma("page_count") * shard.pragma("page_size"))
