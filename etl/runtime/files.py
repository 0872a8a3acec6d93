"""The files that commands write: their names, how to recognise them, and how to replace one atomically."""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from etl.core.errors import Refused
from etl.core.routing import in_file_names, shard_path
from etl.runtime.settings import Settings

_COMPANIONS = ("-journal", "-wal", "-shm")
"""SQLite creates and deletes these files beside a database."""
_PID_LINE = re.compile(rb"\d+\n")
"""On a file system without locks filelock writes the holder into the lock file, first the pid."""
_LONGEST_PID = 20
_LEFTOVER = re.compile(r"\.etl-(\d+)-\w+\.tmp")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that this program writes, and how such a file is recognised."""

    noun: str
    name: str
    """In SHARD_DIR; empty if a setting gives the path."""
    beginning: bytes
    """The first bytes of every such file; none for the lock file, which is empty."""
    fields: frozenset[str] = frozenset()
    """If the file is a JSON object: keys that it has."""

    def path(self, shard_dir: Path, table: str = "") -> Path:
        """The path of a table's file: several tables may share SHARD_DIR."""
        return shard_dir / self.name.format(table=in_file_names(table))

    def is_in(self, path: Path) -> bool:
        """Whether the file is of this kind. It may be incomplete: a power cut may leave a part of it, or nothing."""
        with path.open("rb") as file:
            start = file.read(len(self.beginning) or _LONGEST_PID)
            if not self.beginning:
                return not start or _PID_LINE.match(start) is not None
            if start != self.beginning:
                return self.beginning.startswith(start)
            if not self.fields:
                return True
            try:
                return self.fields <= set(json.loads(start + file.read()))
            except ValueError:
                return True


LOCK = Kind("the lock file", ".etl.lock", b"")
RUN = Kind("the file that names the running command", ".etl-run.json", b'{"pid": ', frozenset({"pid", "started_at"}))
VERIFY_LOCK = Kind("the lock file of verifications", ".etl-verify.lock", b"")
SHARDS_LOCK = Kind("the lock file of the shards", ".etl-shards.lock", b"")
VERIFY_RUN = Kind(
    "the file that names the running verification",
    ".etl-verify.json",
    b'{"pid": ',
    frozenset({"pid", "started_at"}),
)
STATUS = Kind("the status file", "{table}_status.json", b'{"table": "', frozenset({"table", "run_id", "outcome"}))
VERIFICATION = Kind(
    "the outcome of the last verification",
    "{table}_verify.json",
    b'{"outcome": "',
    frozenset({"outcome", "finished_at", "differences"}),
)
VERIFICATIONS = Kind("the history of verifications", "{table}_verifications.jsonl", b'{"started_at": "')
CHECKS = Kind("the checks of rowids", "{table}_checks.json", b'{"checks": [', frozenset({"checks"}))
CURSOR = Kind(
    "the file of the cursor",
    "{table}_cursor.json",
    b'{"cursor_column": "',
    frozenset({"cursor_column", "storage_class", "value"}),
)
REPORT = Kind(
    "the report",
    "report.html",
    b'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="generator" content="shard-migrate">',
)
METRICS = Kind("the metrics file (METRICS_FILE)", "", b"# HELP shard_migrate_")
_LOCKS = (LOCK, RUN, SHARDS_LOCK)
_IN_SHARD_DIR = (*_LOCKS, VERIFY_LOCK, VERIFY_RUN, STATUS, VERIFICATION, VERIFICATIONS, CHECKS, CURSOR, REPORT)
OF_A_REBUILD = _LOCKS
OF_A_RUN = (*_LOCKS, STATUS, CURSOR, METRICS)
OF_A_VERIFICATION = (*_LOCKS, VERIFY_LOCK, VERIFY_RUN, VERIFICATION, VERIFICATIONS, CHECKS, METRICS)


def check(settings: Settings, *written: Kind) -> None:
    """Raises Refused unless each path has one use, and existing files of these kinds are this program's own."""
    check_uses(settings)
    for kind in written:
        check_is_own(settings, kind)


def check_directory(shard_dir: Path) -> None:
    """Raises Refused where the directory was deleted: a lock would create it again, and each shard seem lost."""
    if not shard_dir.is_dir():
        raise Refused(f"SHARD_DIR={shard_dir}: found no directory: it was deleted meanwhile; bring it back")


def check_uses(settings: Settings) -> None:
    """Raises Refused if two of these are one file: the source, a shard, a companion of either, a file of this program.

    Two paths are one file if they lead to the same place or inode, through links or not.
    """
    used: dict[object, str] = {}
    real = cache(os.path.realpath)
    manifest = Path(os.path.realpath(settings.SHARD_DIR / "manifest"))
    databases = {"SOURCE_DB": settings.SOURCE_DB} | {
        f"shard {shard}": shard_path(settings.SHARD_DIR, settings.TABLE_NAME, shard)
        for shard in settings.shard_map.shards
    }
    others = ((kind.noun, path) for kind, path in _paths(settings).items())
    for noun, path in (*_with_companions(databases), *others):
        for mark in _marks(path, real):
            other = used.setdefault(mark, noun)
            if other != noun:
                raise Refused(
                    f"{path}: expected one use of this file, found two: {other} and {noun}; choose another path"
                )
    source = Path(os.path.realpath(settings.SOURCE_DB))
    if manifest in (source, source.parent):
        raise Refused(
            f"SOURCE_DB={settings.SOURCE_DB}: expected a file outside of SHARD_DIR/manifest, which has files of this "
            "program; choose another SHARD_DIR"
        )


def _paths(settings: Settings) -> dict[Kind, Path]:
    paths = {kind: kind.path(settings.SHARD_DIR, settings.TABLE_NAME) for kind in _IN_SHARD_DIR}
    return paths if settings.METRICS_FILE is None else paths | {METRICS: settings.METRICS_FILE}


def _with_companions(databases: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for noun, path in databases.items():
        yield noun, path
        real = os.path.realpath(path) if _is_link(path) else path  # SQLite follows links before it names the others
        yield from ((f"{noun}'s {suffix}", Path(f"{real}{suffix}")) for suffix in _COMPANIONS)


def _marks(path: Path, real: Callable[[Path], str]) -> set[object]:
    """What two paths of one file have in common: its place, with and without following links, and its inode."""
    place = f"{real(path.parent)}/{path.name}"
    marks: set[object] = {place, real(path) if _is_link(path) else place}
    with suppress(OSError):
        found = path.stat()
        marks.add((found.st_dev, found.st_ino))
    return marks


def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114 - Path.is_symlink raises where a name is too long


def check_is_own(settings: Settings, kind: Kind) -> None:
    """Raises Refused if the path has something that this program did not write as this kind."""
    path = _paths(settings).get(kind)
    found = _foreign(kind, path) if path else ""
    if found:
        raise Refused(
            f"{path}: expected {kind.noun} as this program writes it, or no file, found {found}; move it away, or "
            "choose another path"
        )


def _foreign(kind: Kind, path: Path) -> str:
    """What is at the path instead of a file of this kind; empty if there is such a file, or none."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""  # nothing to replace; if it cannot be written either, the write says so
    if not stat.S_ISREG(mode):
        return "a directory" if stat.S_ISDIR(mode) else "a special file"
    try:
        return "" if kind.is_in(path) else "another file"
    except FileNotFoundError:
        return ""  # a run is replacing it now
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})"


def replace(path: Path, content: bytes | memoryview, *, mode: int = 0o600, durable: bool = False) -> None:
    """Writes a new file beside the path and renames it, so that a reader sees the whole old file or the whole new one.

    The temporary name is new, so no existing file is opened, not even through a link. With `durable` the file survives
    a power cut.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".etl-{os.getpid()}-", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            if durable:
                file.flush()
                os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _sync_directory(path.parent)


def remove_leftovers(directory: Path) -> None:
    """Removes the temporary files of processes that were killed in `replace`."""
    for path in directory.glob(".etl-*.tmp"):
        match = _LEFTOVER.fullmatch(path.name)
        # In a container every run may have the same pid; this process is writing no such file now.
        if match and (int(match[1]) == os.getpid() or not psutil.pid_exists(int(match[1]))):
            path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
