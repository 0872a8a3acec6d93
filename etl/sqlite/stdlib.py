"""Files opened through the standard library's SQLite: read-only, and closed before another copy opens them.

This process has three copies of SQLite (this one, connectorx's and ADBC's). POSIX file locks belong to a process: when
one copy closes a file, it drops the locks that the others hold on it. So a file is open in one copy at a time.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote as url_quote

from etl.core.errors import EtlError, Refused

BUSY_TIMEOUT_S = 5.0
_OF_THE_APPLICATION = ("no such collation sequence", "no such function", "unknown function")


def read_only_uri(path: Path) -> str:
    """The file as SQLite's URI that can neither write nor create it."""
    return file_uri(path, "ro")


def file_uri(path: Path, mode: str) -> str:
    """The file as SQLite's URI: `ro` to read it, `rw` to write it, if it exists."""
    return f"file:{url_quote(os.fsencode(path.absolute()))}?mode={mode}"


@contextmanager
def source(path: Path) -> Iterator[sqlite3.Connection]:
    """The source, open for reading while the block runs; not while another copy of SQLite has it open.

    Raises Refused if there is no such file, or no sound database in it; EtlError if it cannot be read now.
    """
    found = _what_is_at(path)
    if found:
        raise Refused(f"SOURCE_DB={path}: expected an SQLite file, found {found}; set SOURCE_DB")
    try:
        with closing(connect(path)) as database:
            yield database
    except sqlite3.OperationalError as error:
        if str(error).startswith("Could not decode"):  # the message goes on with the text
            raise damaged(path, "a name that is no UTF-8") from None
        if str(error).startswith(_OF_THE_APPLICATION):
            raise Refused(
                f"SOURCE_DB={path}: expected a table whose CREATE statements work in any SQLite, found one that needs "
                f"what only its application has ({error}); migrate a copy of the table without it"
            ) from error
        raise EtlError(
            f"SOURCE_DB={path}: cannot be read now ({error}); check its permissions; if a program is writing to it, "
            "run again later; after a crash of its writer, open it once with the sqlite3 shell so that it recovers"
        ) from error
    except UnicodeDecodeError:
        raise damaged(path, "a name that is no UTF-8") from None
    except sqlite3.DatabaseError as error:
        if "malformed" in str(error):  # SQLite quotes the malformed schema, which may be a part of any page
            raise damaged(path, str(error).partition(" (")[0]) from None
        raise Refused(f"SOURCE_DB={path}: expected an SQLite database, found none ({error}); check the path") from error


def damaged(path: Path, found: str) -> Refused:
    return Refused(
        f"SOURCE_DB={path}: expected a sound database, found damage ({found}); PRAGMA integrity_check tells where; "
        "restore the file, or save what .recover of the sqlite3 shell can"
    )


@contextmanager
def shard(path: Path) -> Iterator[sqlite3.Connection]:
    """The shard, open for reading while the block runs; it leaves no new file beside it. Raises EtlError."""
    # A reader of a WAL database creates a -wal and a -shm. Only a connection that may write removes them when it is the
    # last one. A -wal or -journal with content is of another program, or of one that died: then nothing may move.
    mode = "ro" if bytes_beside(path, "-wal") or bytes_beside(path, "-journal") else "rw"
    try:
        with closing(connect(path, mode)) as database:
            database.execute("PRAGMA query_only = ON")
            yield database
    except sqlite3.OperationalError as error:
        raise EtlError(
            f"{path}: cannot be read now ({error}); make it readable and its directory writable for you (SQLite keeps "
            "its -shm file there), then try again"
        ) from None
    except sqlite3.DatabaseError as error:
        raise EtlError(
            f"{path}: expected a shard, found no database ({error}); move it away and migrate again"
        ) from None


def connect(path: Path, mode: str = "ro") -> sqlite3.Connection:
    """A connection in a mode of `file_uri`: it cannot create the file, and by default it cannot write either."""
    return sqlite3.connect(file_uri(path, mode), uri=True, timeout=BUSY_TIMEOUT_S)


def remove_traces(path: Path) -> None:
    """Removes the -wal and -shm that a reader in another copy of SQLite left, unless a program has the shard open."""
    with suppress(EtlError), shard(path) as database:
        database.execute("PRAGMA schema_version").fetchone()


def bytes_beside(path: Path, suffix: str) -> int:
    """The size of a file that SQLite keeps beside a database; 0 without one."""
    try:
        return path.with_name(path.name + suffix).stat().st_size
    except FileNotFoundError:
        return 0


def _what_is_at(path: Path) -> str:
    """What is at the path instead of a file; empty if it is a file."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        return "no file of that name"
    except OSError as error:
        return f"one that cannot be opened ({error.strerror})"
    if stat.S_ISREG(kind):
        return ""
    return "a directory" if stat.S_ISDIR(kind) else "a special file"
