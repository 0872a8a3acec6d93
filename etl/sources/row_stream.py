"""Rows as a stream of read results, each read while the one before it is in use."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from etl.core.model import ReadTask
from etl.sources.chunker import Chunker
from etl.sources.reader import ReadResult, Source

T = TypeVar("T")


def read_all(source: Source, chunker: Chunker, *, admit: Callable[[ReadTask], None]) -> Iterator[ReadResult]:
    """Reads every task of the chunker; `admit` returns when there is memory for a task."""
    for task in chunker.tasks():
        admit(task)
        result = source.read(task, chunker.read_types)
        chunker.observe(result)
        yield result
        del result  # else its rows stay in memory until the next are read; likewise below


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The items, each made by a thread while the one before it is in use."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="etl") as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]  # mypy cannot tell the end mark from an item
            del item
