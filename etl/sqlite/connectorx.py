"""Reads an SQLite file through connectorx: read-only, many queries a call, an exception for each kind of failure."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote as url_quote

os.environ.setdefault("RUST_LOG", "off")  # connectorx's pool prints to the console otherwise; read at its import

import connectorx
import pyarrow as pa

from etl.sqlite.stdlib import read_only_uri

_CELL_REFUSED = re.compile(r"(?:Invalid column type|Conversion error from type) \w+ at index: (\d+)")


class ReadFailed(Exception):
    """The read failed; the text is SQLite's reason, without the query."""


class TooManyBytes(Exception):
    """One read has more bytes of text than connectorx can hold: 2 GiB in a record batch."""


class CellRefused(Exception):
    """A cell has another type than its result column (0 is the first)."""

    def __init__(self, message: str, result_column: int) -> None:
        super().__init__(message)
        self.result_column = result_column


class RateLimit:
    """Lets at most `calls` calls begin within any `seconds` seconds, over all threads; the others wait."""

    def __init__(self, *, calls: int, seconds: float) -> None:
        self._begun: deque[float] = deque(maxlen=calls)
        self._seconds = seconds
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Returns when the next call may begin."""
        with self._lock:
            if len(self._begun) == self._begun.maxlen:
                time.sleep(max(0.0, self._begun[0] + self._seconds - time.monotonic()))
            self._begun.append(time.monotonic())


_CALLS = RateLimit(calls=2_000, seconds=31)
"""connectorx leaves three idle threads for 30 s after each call; 10,000 calls at once fail."""


def read(path: Path, queries: Sequence[str]) -> pa.Table:
    """The rows of all queries; each record batch is of one query, and batches come in any order.

    A path that cannot be opened blocks for 30 s: check it first. Raises CellRefused, TooManyBytes or ReadFailed.
    """
    _CALLS.wait()
    uri = "sqlite://" + url_quote(read_only_uri(path), safe="")
    try:
        table: pa.Table = connectorx.read_sql(uri, list(queries), return_type="arrow")
    except RuntimeError as error:
        message = str(error).splitlines()[0]
        if refused := _CELL_REFUSED.search(message):
            raise CellRefused(message, int(refused[1])) from None
        raise ReadFailed(message.partition(" in SELECT")[0].partition(" in WITH")[0]) from None
    except BaseException as error:
        # A panic's class cannot be imported, and it is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise TooManyBytes from None
    return table
