"""The independent checker of a finished migration: it shares no code with the package, only the contract."""

import hashlib
import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, TypeAlias

MOST_DIFFERENCES = 40
OPEN_SHARDS = 64
COLUMNS_AT_ONCE = 900
"""An expression is at most 1,000 deep, and a query has at most 2,000 result columns."""
FilePath: TypeAlias = str | os.PathLike[str]

# Unicode's White_Space property; str.isspace() would add U+001C..U+001F, which do not have it.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"


def expected_shard(key: bytes | None, *, num_shards: int, reserved_shard: int) -> int:
    """The contract's routing of a key's bytes (text as UTF-8)."""
    if key is None:
        return reserved_shard
    try:
        blank = not key.decode("utf-8").strip(WHITE_SPACE)
    except UnicodeDecodeError:
        blank = False
    return reserved_shard if blank else int(hashlib.sha256(key).hexdigest(), 16) % num_shards


def shard_name(table: str, shard: int) -> str:
    return f"{table.replace('/', '%2F')}_shard_{shard:02d}.db"


def compare(
    source_path: FilePath, shard_dir: FilePath, *, table: str, key: str, num_shards: int, reserved_shard: int
) -> list[str]:
    """Every difference between the source's table and its shards, the first 40 of them; empty means equal."""
    shards = sorted({*range(num_shards), reserved_shard})
    check = _Check(source_path, Path(shard_dir), table, key, num_shards, reserved_shard)
    return list(islice(check.differences(shards), MOST_DIFFERENCES))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def opened(path: FilePath) -> sqlite3.Connection:
    """A read-only connection that returns text as its UTF-8 bytes, valid or not."""
    database = sqlite3.connect(Path(path).absolute().as_uri() + "?mode=ro", uri=True)
    database.text_factory = bytes
    return database


def rowid_name(database: sqlite3.Connection, table: str) -> str:
    """SQL for the rowid: an alias no column shadows, else the INTEGER PRIMARY KEY column."""
    columns = database.execute("SELECT name, pk FROM pragma_table_xinfo(?)", (table,)).fetchall()
    shadowed = {name.decode().lower() for name, _ in columns}
    free = [alias for alias in ("rowid", "_rowid_", "oid") if alias not in shadowed]
    return free[0] if free else next(quoted(name.decode()) for name, pk in columns if pk)


@dataclass(frozen=True)
class _Check:
    source_path: FilePath
    shard_dir: Path
    table: str
    key: str
    num_shards: int
    reserved_shard: int

    def differences(self, shards: Sequence[int]) -> Iterator[str]:
        prefix = shard_name(self.table, 0).removesuffix("00.db")
        present = {path.name for path in self.shard_dir.glob("*.db") if path.name.startswith(prefix)}
        wanted = {shard_name(self.table, shard): shard for shard in shards}
        yield from (f"file {name!r} belongs to no shard" for name in sorted(present - wanted.keys()))
        yield from (f"shard {wanted[name]} has no file" for name in sorted(wanted.keys() - present))
        sound = []
        with closing(opened(self.source_path)) as source:
            for shard in (wanted[name] for name in sorted(present & wanted.keys())):
                faults = list(self._header(source, shard))
                yield from faults
                if not faults:
                    sound.append(shard)
            for start in range(0, len(sound), OPEN_SHARDS):
                yield from self._columns(source, sound[start : start + OPEN_SHARDS])
            yield from self._ledger(source, sound)

    def _path(self, shard: int) -> Path:
        return self.shard_dir / shard_name(self.table, shard)

    def _ddl(self, database: sqlite3.Connection) -> tuple[object, ...]:
        query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
        found = database.execute(query, (self.table,)).fetchone()
        return tuple(found or ())

    def _header(self, source: sqlite3.Connection, shard: int) -> Iterator[str]:
        try:
            with closing(opened(self._path(shard))) as database:
                for pragma in ("encoding", "user_version", "application_id"):
                    ours, theirs = (db.execute(f"PRAGMA {pragma}").fetchone() for db in (source, database))
                    if ours != theirs:
                        yield f"shard {shard}: {pragma} is {theirs}, the source's {ours}"
                if self._ddl(source) != self._ddl(database):
                    yield f"shard {shard}: CREATE TABLE is {self._ddl(database)}, the source's {self._ddl(source)}"
                health = set(database.execute("PRAGMA integrity_check").fetchall()) - {(b"ok",)}
                if health and not health <= set(source.execute("PRAGMA integrity_check").fetchall()):
                    yield f"shard {shard}: integrity_check says {sorted(health)[:3]}"
                if database.execute("SELECT count(*) FROM _etl_identity").fetchone() == (0,):
                    yield f"shard {shard}: _etl_identity is empty"
                database.execute("SELECT first_rowid, last_rowid, rows FROM _etl_windows LIMIT 1")
        except sqlite3.Error as error:
            yield f"shard {shard}: {error}"

    def _columns(self, source: sqlite3.Connection, shards: Sequence[int]) -> Iterator[str]:
        names = [row[1].decode() for row in source.execute(f"PRAGMA table_xinfo({quoted(self.table)})")]
        for start in range(0, len(names), COLUMNS_AT_ONCE):
            yield from self._cells(source, shards, names[start : start + COLUMNS_AT_ONCE])

    def _row_query(self, source: sqlite3.Connection, names: Sequence[str], *, with_key: bool) -> str:
        """SQL of (key's bytes, rowid, a letter of typeof() per column, every cell exactly)."""
        tags = " || ".join(f"substr(typeof({quoted(name)}), 1, 1)" for name in names)
        exact = "CASE typeof({0}) WHEN 'text' THEN CAST({0} AS BLOB) ELSE {0} END"
        cells = ", ".join(exact.format(quoted(name)) for name in names)
        key = quoted(self.key)
        text = f"CASE typeof({key}) WHEN 'blob' THEN {key} ELSE CAST({key} AS TEXT) END, " if with_key else ""
        rowid = rowid_name(source, self.table)
        return f"SELECT {text}{rowid}, {tags}, {cells} FROM {quoted(self.table)} ORDER BY {rowid}"

    def _cells(self, source: sqlite3.Connection, shards: Sequence[int], names: Sequence[str]) -> Iterator[str]:
        """Walk the source and these shards side by side in rowid order."""
        query = self._row_query(source, names, with_key=True)
        shard_query = self._row_query(source, names, with_key=False)
        with ExitStack() as open_shards:
            databases = [open_shards.enter_context(closing(opened(self._path(shard)))) for shard in shards]
            cursors = {shard: each.execute(shard_query) for shard, each in zip(shards, databases, strict=True)}
            heads = {shard: cursor.fetchone() for shard, cursor in cursors.items()}
            for row in source.execute(query):
                shard = expected_shard(row[0], num_shards=self.num_shards, reserved_shard=self.reserved_shard)
                if shard not in cursors:
                    continue
                ours, theirs = row[1:], heads[shard]
                while theirs is not None and theirs[0] < ours[0]:
                    yield f"shard {shard}: row {theirs[0]} should not be there"
                    theirs = cursors[shard].fetchone()
                heads[shard] = theirs
                if theirs is None or theirs[0] > ours[0]:
                    yield f"shard {shard}: row {ours[0]} is missing"
                    continue
                if ours != theirs or b"r" in ours[1]:
                    yield from (f"shard {shard}: {fault}" for fault in _cell_faults(names, ours, theirs))
                heads[shard] = cursors[shard].fetchone()
            for shard, head in heads.items():
                for row in chain([head] if head else [], cursors[shard]):
                    yield f"shard {shard}: row {row[0]} should not be there"

    def _ledger(self, source: sqlite3.Connection, shards: Sequence[int]) -> Iterator[str]:
        rowid, table = rowid_name(source, self.table), quoted(self.table)
        count = f"SELECT count(*) FROM {table} WHERE {rowid} BETWEEN ? AND ?"
        ledger = "SELECT first_rowid, last_rowid, rows FROM _etl_windows ORDER BY 1, 2"
        counted, windows = 0, None
        for shard in shards:
            with closing(opened(self._path(shard))) as database:
                lines = database.execute(ledger).fetchall()
                for first, last, rows in lines:
                    real = database.execute(count, (first, last)).fetchone()
                    if (rows,) != real:
                        yield f"shard {shard}: window {first}..{last} says {rows} rows and has {real[0]}"
                counted += database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            ranges = [(first, last) for first, last, _ in lines]
            windows = ranges if windows is None else windows
            if ranges != windows:
                yield f"shard {shard}: its ledger lists other windows than shard {shards[0]}'s"
        rowids = source.execute(f"SELECT {rowid} FROM {table} ORDER BY {rowid}")
        yield from _coverage(windows or [], (row[0] for row in rowids))
        (total,) = source.execute(f"SELECT count(*) FROM {table}").fetchone()
        if total != counted:
            yield f"the source has {total} rows, its shards {counted}"


def _cell_faults(names: Sequence[str], ours: Sequence[Any], theirs: Sequence[Any]) -> Iterator[str]:
    tags = (str(row[1], "ascii") for row in (ours, theirs))
    for name, our_type, their_type, our, their in zip(names, *tags, ours[2:], theirs[2:], strict=True):
        if our_type != their_type:
            yield f"row {ours[0]}, column {name!r}: type {their_type} is not the source's {our_type}"
        elif our != their or (isinstance(our, float) and struct.pack("<d", our) != struct.pack("<d", their)):
            yield f"row {ours[0]}, column {name!r}: {str(their)[:60]} is not the source's {str(our)[:60]}"


def _coverage(windows: Sequence[tuple[int, int]], rowids: Iterator[int]) -> Iterator[str]:
    yield from (f"window {first}..{last} is upside down" for first, last in windows if first > last)
    for (first, last), (following, _) in pairwise(windows):
        if following <= last:
            yield f"window {first}..{last} overlaps the one that starts at {following}"
    pending = iter(windows)
    first, last = next(pending, (0, -1))
    for rowid in rowids:
        while rowid > last and (window := next(pending, None)):
            first, last = window
        if not first <= rowid <= last:
            yield f"row {rowid} lies in no window"
