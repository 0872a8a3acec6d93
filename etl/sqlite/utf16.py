"""The UTF-8 form of a UTF-16 source's text, converted as SQLite does it, invalid UTF-16 included."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import polars as pl


@contextmanager
def utf8_converter(encoding: str) -> Iterator[Callable[[pl.Series], pl.Series] | None]:
    """Converts bytes of text in this encoding to UTF-8, Binary to Binary, null for null; None if they are UTF-8.

    It works in memory, a cell at a time: use it for keys only. Any thread may call it.
    """
    if encoding == "UTF-8":
        yield None
        return
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as database:
        database.execute(f"PRAGMA encoding = '{encoding}'")
        database.execute("CREATE TABLE cells (data BLOB)")
        database.text_factory = bytes
        lock = threading.Lock()

        def to_utf8(cells: pl.Series) -> pl.Series:
            with lock:
                database.execute("DELETE FROM cells")
                # A bound blob counts as UTF-8 when it is cast, a stored one as the file's encoding: hence the table.
                database.executemany("INSERT INTO cells VALUES (?)", ((data,) for data in cells))
                texts = database.execute("SELECT CAST(data AS TEXT) FROM cells ORDER BY rowid")
                return pl.Series(cells.name, [text for (text,) in texts], dtype=pl.Binary)

        yield to_utf8
