"""Rows as a stream of read results, each read while the one before it is in use."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from etl.core import ranges
from etl.core.backlog import Backlog
from etl.core.columns import ReadTypes
from etl.core.model import ReadTask, RowidRange
from etl.sources.chunker import Chunker
from etl.sources.reader import ReadResult, Source

T = TypeVar("T")

READ_ROWS = 200_000
"""The rows of a read for comparison, if they fit in memory: connectorx leaves three idle threads after each call."""
_READERS = 4


@dataclass(frozen=True, slots=True)
class Portion:
    """All rows of a range of rowids, in rowid order, and their read types."""

    stretch: RowidRange
    frame: pl.DataFrame
    read_types: ReadTypes


def read_all(source: Source, chunker: Chunker, *, admit: Callable[[ReadTask], None]) -> Iterator[ReadResult]:
    """Reads every task of the chunker; `admit` returns when there is memory for a task."""
    for task in chunker.tasks():
        admit(task)
        result = source.read(task, chunker.read_types)
        chunker.observe(result)
        yield result
        del result  # else its rows stay in memory until the next are read; likewise below


def of_source(source: Source, coverage: ranges.Coverage, read_types: ReadTypes | None = None) -> Iterator[Portion]:
    """The source's rows in these ranges, in portions that fit the memory budget."""
    chunker = Chunker(
        source,
        Backlog((), {}, ranges.split_at_zero(coverage)),
        batch_rows=READ_ROWS // _READERS,
        readers=_READERS,
        slots=1,
        read_types=read_types,
    )
    for result in read_all(source, chunker, admit=lambda _: None):
        yield Portion(result.task.whole, result.frame, result.read_types)


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The items, each made by a thread while the one before it is in use."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="etl") as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]  # mypy cannot tell the end mark from an item
            del item
