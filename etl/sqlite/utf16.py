"""The UTF-8 form of a UTF-16 source's text, as SQLite converts it: invalid UTF-16, too, its own way."""

from __future__ import annotations

import sqlite3

import polars as pl


class Utf8:
    """Converts text cells' bytes in the source's encoding; in memory, a cell at a time, so only for keys."""

    def __init__(self, encoding: str) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute(f"PRAGMA encoding = '{encoding}'")
        self._database.execute("CREATE TABLE cells (data BLOB)")
        self._database.text_factory = bytes

    def __call__(self, cells: pl.Series) -> pl.Series:
        """The cells' UTF-8 bytes: Binary in, Binary out, null for null."""
        self._database.execute("DELETE FROM cells")
        # Through a table, since a bound blob counts as UTF-8 when it is cast, a stored one as the database's encoding.
        self._database.executemany("INSERT INTO cells VALUES (?)", ((data,) for data in cells))
        texts = self._database.execute("SELECT CAST(data AS TEXT) FROM cells ORDER BY rowid")
        return pl.Series(cells.name, [text for (text,) in texts], dtype=pl.Binary)

    def close(self) -> None:
        """Frees the in-memory database."""
        self._database.close()
