"""Rows read for comparison, one read ahead of their use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from etl.core import ranges
from etl.core.backlog import Backlog
from etl.core.columns import ReadTypes
from etl.core.model import RowidRange
from etl.sources.chunker import Chunker
from etl.sources.reader import Source

T = TypeVar("T")

READ_ROWS = 200_000
"""A read's rows, where they are not too heavy: connectorx leaves three idle threads for 30 s after each call."""
_READERS = 4


@dataclass(frozen=True, slots=True)
class Portion:
    """All rows of a stretch of rowids, in rowid order, and the lanes they came in."""

    stretch: RowidRange
    frame: pl.DataFrame
    read_types: ReadTypes


def of_source(source: Source, coverage: ranges.Coverage) -> Iterator[Portion]:
    """The source's rows in these ranges, in portions that fit the memory budget."""
    backlog = Backlog((), {}, ranges.split_at_zero(coverage))
    survey = Chunker(source, backlog, batch_rows=READ_ROWS // _READERS, readers=_READERS, slots=1)
    for batch in survey.batches():
        frame = source.read(batch)
        survey.observe(batch, frame.height)
        stretch = RowidRange(batch.windows[0].first_rowid, batch.windows[-1].last_rowid)
        yield Portion(stretch, frame, source.read_types)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by a thread while the one before it is in use."""
    nothing = object()
    with ThreadPoolExecutor(1, thread_name_prefix="etl") as pool:
        coming = pool.submit(next, items, nothing)
        while (item := coming.result()) is not nothing:
            coming = pool.submit(next, items, nothing)
            yield item  # type: ignore[misc]  # mypy cannot tell the mark from an item
