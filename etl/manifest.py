"""The Parquet manifest: one row a completed window, for people. Derived from the ledgers; losing it loses nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from etl import plan
from etl.errors import EtlError
from etl.model import RowidRange

_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "table_name": pl.String,
    "run_id": pl.String,
    "first_rowid": pl.Int64,
    "last_rowid": pl.Int64,
    "rows": pl.Int64,
    "rows_by_shard": pl.List(pl.Struct({"shard": pl.Int64, "rows": pl.Int64})),
    "bytes": pl.Int64,
    "widened": pl.List(pl.String),
    "read_ms": pl.Float64,
    "route_ms": pl.Float64,
    "write_ms": pl.Float64,
    "started_at": pl.Datetime("us", "UTC"),
    "committed_at": pl.Datetime("us", "UTC"),
}
SCHEMA = pl.Schema(_COLUMNS)


@dataclass(frozen=True, slots=True)
class Entry:
    """A completed window. What only the run itself knew is None in an entry rebuilt from the ledgers."""

    run_id: str
    window: RowidRange
    rows_by_shard: Sequence[tuple[int, int]]
    """Shard number and rows, in the order of slots."""
    committed_at: datetime
    bytes: int | None = None
    widened: Sequence[str] | None = None
    read_ms: float | None = None
    route_ms: float | None = None
    write_ms: float | None = None
    started_at: datetime | None = None


class Manifest:
    """The files `SHARD_DIR/manifest/*.parquet`: one a run, and small ones more while it goes on.

    Shards of several tables may share a directory; each file is of one table, and only that table's runs touch it.
    """

    def __init__(self, shard_dir: Path, table_name: str) -> None:
        self.directory = shard_dir / "manifest"
        self._table_name = table_name
        self._waiting: list[Entry] = []
        self._parts: list[Path] = []

    def coverage(self) -> plan.Coverage:
        """The windows that the manifest has, adjacent ones merged; files that cannot be read count as lost."""
        windows = self._read().select("first_rowid", "last_rowid")
        return plan.union(RowidRange(first, last) for first, last in windows.iter_rows())

    def entries(self) -> pl.DataFrame:
        """All entries, ascending by rowid, in the columns of `SCHEMA`; a window that stands twice is given once."""
        return self._read().unique("first_rowid", keep="first").sort("first_rowid")

    def widened(self) -> set[str]:
        """The columns that some window had to carry cell by cell."""
        lists = self._read()["widened"].drop_nulls().to_list()
        return {name for names in lists for name in names}

    def mend(self, done: plan.Coverage, missing: Iterable[Entry]) -> None:
        """Rewrites the manifest as one file: each window of `done` once, with those that were missing."""
        kept = self._read().unique("first_rowid", keep="first", maintain_order=True)
        inside = [plan.covers(done, RowidRange(*row)) for row in kept.select("first_rowid", "last_rowid").iter_rows()]
        frame = pl.concat([kept.filter(pl.Series(inside, dtype=pl.Boolean)), self._frame(missing)]).sort("first_rowid")
        old = [*self._frames(), *self._unreadable()]
        name = f"mended-{len(old)}.parquet"
        taken = set(self._files())
        while self.directory / name in taken:
            name = f"again-{name}"
        if frame.height:
            self._write(name, frame)
        for path in old:
            path.unlink()

    def is_sound(self, done: plan.Coverage) -> bool:
        """Whether it has each window of `done` once and no others, and every file can be read."""
        frame = self._read().select("first_rowid", "last_rowid")
        once = frame["first_rowid"].is_unique().all()
        return not self._unreadable() and once and plan.union(RowidRange(*row) for row in frame.iter_rows()) == done

    def add(self, entry: Entry) -> None:
        """Takes an entry, to be written by the next `flush`."""
        self._waiting.append(entry)

    @property
    def waiting(self) -> int:
        """Entries not yet in a file."""
        return len(self._waiting)

    def flush(self) -> None:
        """Writes the waiting entries into a file of their own."""
        if self._waiting:
            name = f"{self._waiting[-1].run_id}-{len(self._parts):06d}.parquet"
            self._parts.append(self._write(name, self._frame(self._waiting)))
            self._waiting = []

    def compact(self) -> None:
        """Makes this run's files one. Killed in between, it leaves windows twice, which the next run's `mend` sees."""
        self.flush()
        if len(self._parts) > 1:
            frame = pl.concat([pl.read_parquet(path) for path in self._parts]).sort("first_rowid")
            self._write(f"{self._parts[0].stem.rpartition('-')[0]}.parquet", frame)
            for path in self._parts:
                path.unlink()
        self._parts = []
        for leftover in self.directory.glob("*.tmp"):  # of a run that was killed as it wrote
            leftover.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("*.parquet"))

    def _frames(self) -> dict[Path, pl.DataFrame]:
        """The table's files that can be read."""
        frames = {path: frame for path in self._files() if (frame := _readable(path)) is not None}
        return {path: frame for path, frame in frames.items() if frame["table_name"].eq(self._table_name).all()}

    def _unreadable(self) -> list[Path]:
        """Truncated and foreign files: what they held is written anew from the ledgers."""
        return [path for path in self._files() if _readable(path) is None]

    def _read(self) -> pl.DataFrame:
        return pl.concat([SCHEMA.to_frame(), *self._frames().values()])

    def _frame(self, entries: Iterable[Entry]) -> pl.DataFrame:
        rows = [
            {
                "table_name": self._table_name,
                "run_id": entry.run_id,
                "first_rowid": entry.window.first_rowid,
                "last_rowid": entry.window.last_rowid,
                "rows": sum(rows for _, rows in entry.rows_by_shard),
                "rows_by_shard": [{"shard": shard, "rows": rows} for shard, rows in entry.rows_by_shard],
                "bytes": entry.bytes,
                "widened": entry.widened,
                "read_ms": entry.read_ms,
                "route_ms": entry.route_ms,
                "write_ms": entry.write_ms,
                "started_at": entry.started_at,
                "committed_at": entry.committed_at,
            }
            for entry in entries
        ]
        return pl.DataFrame(rows, schema=SCHEMA)

    def _write(self, name: str, frame: pl.DataFrame) -> Path:
        """Writes to a temporary name, syncs, renames, and syncs the directory: a reader sees a whole file or none."""
        path = self.directory / name
        temporary = path.with_suffix(".tmp")
        try:
            self.directory.mkdir(exist_ok=True)
            with temporary.open("wb") as file:
                frame.write_parquet(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            sync_directory(self.directory)
        except OSError as error:
            raise EtlError(
                f"{path}: cannot be written ({error.strerror}); the shards are safe; mend the cause and run again"
            ) from error
        return path


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _readable(path: Path) -> pl.DataFrame | None:
    try:
        return pl.read_parquet(path, columns=SCHEMA.names()).cast(SCHEMA)
    except (pl.exceptions.PolarsError, OSError):
        return None
