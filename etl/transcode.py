"""The UTF-8 form of a UTF-16 source's text, as SQLite itself converts it."""

from __future__ import annotations

import sqlite3


class Utf8:
    """Converts a text cell's bytes in the source's encoding; a call a cell, so only for keys.

    SQLite does it, in memory, because for text that is no valid UTF-16 its rules are its own.
    """

    def __init__(self, encoding: str) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute(f"PRAGMA encoding = '{encoding}'")
        self._database.text_factory = bytes

    def __call__(self, data: bytes) -> bytes:
        """The text's UTF-8 bytes."""
        return bytes(self._database.execute("SELECT CAST(? AS TEXT)", (data,)).fetchone()[0])

    def close(self) -> None:
        """Frees the in-memory database."""
        self._database.close()
