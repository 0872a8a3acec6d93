"""The trial load: sampled rows are read, routed and written as in a load, into shards in memory."""

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
from etl.sources.chunker import partitions
from etl.sources.reader import Source
from etl.sqlite import sql
from etl.sqlite.adbc import Connection
from etl.sqlite.ddl import without_not_null
from etl.sqlite.utf16 import utf8_converter

_MEMORY = ":memory:"
_MAX_SLOTS = 16
"""At most this many shards are written. A row of another shard would take the same time."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the trial load took."""

    rows: int
    load_s: float
    """Seconds for each row of the load, with all cores."""
    index_s: float
    """Seconds for each row of the index builds, with all writers."""


class _Stopwatch:
    """CPU seconds of this process and elapsed seconds, summed over its blocks."""

    def __init__(self) -> None:
        self.cpu_s = self.elapsed_s = 0.0

    def __enter__(self) -> None:
        self.cpu_s -= time.process_time()
        self.elapsed_s -= time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu_s += time.process_time()
        self.elapsed_s += time.perf_counter()


def run(settings: Settings, table: Table, windows: Sequence[RowidRange], indexes: Sequence[Index]) -> Trial | None:
    """Loads the rows of these ranges; None if they have none. Raises EtlError as a run would."""
    reading, routing, writing, indexing = (_Stopwatch() for _ in range(4))
    source = Source(settings.SOURCE_DB, table)
    slots = range(min(_MAX_SLOTS, len(settings.shard_map.shards)))
    read = written = 0
    read_types = first_read_types(table)
    with utf8_converter(table.encoding) as utf8, ExitStack() as stack:
        shards = [stack.enter_context(_empty(settings, table)) for _ in slots]
        for window in windows:
            with reading:
                parts = partitions(read_types, settings.READERS)
                task = ReadTask((window,), ranges.cut_evenly(window, -(-window.span // parts)))
                result = source.read(task, read_types)
                frame, read_types = result.frame, result.read_types
            with routing:
                keys = partition.keys(frame, table, read_types, utf8=utf8)
                rows = partition.split_by_shard(
                    frame, keys, table=table, read_types=read_types, windows=(window,), shards=settings.shard_map
                )
            read += rows.cells.num_rows
            with writing:
                for slot, shard in zip(slots, shards, strict=True):
                    shard.executemany(sql.insert(table, read_types), rows.of(slot))
                    written += rows.of(slot).num_rows
        with indexing:
            for shard in shards:
                for index in indexes:
                    shard.execute(index.sql)
    if not written:
        return None
    cores = len(os.sched_getaffinity(0))
    writers = min(cores, settings.WRITERS)
    return Trial(
        rows=read,
        load_s=max(
            ((reading.cpu_s + routing.cpu_s) / read + writing.cpu_s / written) / cores,
            writing.cpu_s / written / writers,
            routing.elapsed_s / read,  # one thread does it
        ),
        index_s=indexing.cpu_s / written / writers,
    )


def _empty(settings: Settings, table: Table) -> Connection:
    shard = Connection(Path(_MEMORY), cache_kib=limits.cache_kib(1), uri=_MEMORY)
    shard.pragma("encoding", f"'{table.encoding}'")
    shard.pragma("page_size", limits.page_bytes(settings.NUM_SHARDS))
    shard.pragma("temp_store", "MEMORY")
    # A run writes rows that break NOT NULL, too.
    for statement in (without_not_null(table.ddl), ledger.CREATE_IDENTITY, ledger.CREATE_WINDOWS):
        shard.execute(statement)
    return shard
