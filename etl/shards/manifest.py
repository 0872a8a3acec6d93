"""The Parquet manifest: one row a completed window, for people. Derived from the ledgers; losing it loses nothing."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from etl.core import ranges
from etl.core.errors import EtlError
from etl.core.model import RowidRange
from etl.runtime import files

_CHECK = "check"
"""The column that tells whether a line is as a run wrote it (see `_checks`); null in lines of older versions."""
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
    _CHECK: pl.String,
}
SCHEMA = pl.Schema(_COLUMNS)
_WINDOW = ("table_name", "first_rowid", "last_rowid")
_OUR_NAME = re.compile(r"(?:\d{8}T\d{6}\.\d{6}Z-\d+(?:-\d{6})?|(?:again-)*(?:mended|rebuilt)-\d+)\.parquet")
"""Of a run, of a part of one, and of a manifest that was written again."""
_MOST_FILES = 50
"""A run that finds more makes them one: hourly runs stay readable for years."""


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
    A file that has neither our columns nor our name is not ours: it stays, and is not read.
    """

    def __init__(self, shard_dir: Path, table_name: str) -> None:
        self.directory = shard_dir / "manifest"
        self._table_name = table_name
        self._waiting: list[Entry] = []
        self._parts: list[Path] = []

    def lines(self) -> pl.DataFrame:
        """Its lines, as they are in the files that can be read."""
        return self._read(SCHEMA.names())

    def coverage(self) -> ranges.Coverage:
        """The windows that the manifest has, adjacent ones merged; files that cannot be read count as lost."""
        return ranges.union(RowidRange(*row) for row in self._read(_WINDOW).drop("table_name").iter_rows())

    def rows(self) -> dict[int, int]:
        """Each shard's rows, as the windows have them."""
        totals: dict[int, int] = {}
        for by_shard in self.lines().unique("first_rowid")["rows_by_shard"]:
            for each in by_shard:
                totals[each["shard"]] = totals.get(each["shard"], 0) + each["rows"]
        return totals

    def entries(self) -> pl.DataFrame:
        """All entries, ascending by rowid, in the columns of `SCHEMA`; a window that stands twice is given once."""
        return self.lines().unique("first_rowid", keep="first").sort("first_rowid")

    def widened(self) -> set[str]:
        """The columns that some window had to carry cell by cell."""
        lists = self.lines()["widened"].drop_nulls().to_list()
        return {name for names in lists for name in names}

    def mend(self, done: ranges.Coverage, missing: Iterable[Entry]) -> None:
        """Rewrites the manifest as one file: each window of `done` once, with those that were missing."""
        kept = self._read(SCHEMA.names()).unique("first_rowid", keep="first", maintain_order=True)
        inside = [ranges.covers(done, RowidRange(*row)) for row in kept.select("first_rowid", "last_rowid").iter_rows()]
        frame = pl.concat([kept.filter(pl.Series(inside, dtype=pl.Boolean)), self._frame(missing)]).sort("first_rowid")
        self._supersede("mended", frame)

    def _supersede(self, kind: str, frame: pl.DataFrame) -> None:
        """Writes the frame into a file of its own, then removes the table's others."""
        old = [*self._frames(SCHEMA.names(), self._files()), *self._spoilt(SCHEMA.names())]
        name = f"{kind}-{len(old)}.parquet"
        taken = set(self._files())
        while self.directory / name in taken:
            name = f"again-{name}"
        if frame.height:
            self._write(name, frame)
        for path in old:
            path.unlink()

    def rebuild(self, entries: Iterable[Entry]) -> None:
        """Rewrites the manifest as one file of these entries; intact lines that agree stay as they are.

        The ledgers hold rows and moments; milliseconds and bytes are in the manifest alone.
        """
        truth = self._frame(entries)
        lines = self.lines()
        measured = {_facts(row): row for row in lines.filter(intact(lines)).to_dicts()}
        rows = [measured.get(_facts(row), row) for row in truth.to_dicts()]
        self._supersede("rebuilt", pl.DataFrame(rows, schema=SCHEMA))

    def is_sound(self, done: ranges.Coverage) -> bool:
        """Whether it has each window of `done` once and no others, in files that can be read."""
        frame = self._read(_WINDOW).drop("table_name")
        once = frame["first_rowid"].is_unique().all()
        covered = ranges.union(RowidRange(*row) for row in frame.iter_rows())
        return once and covered == done and not self._spoilt(_WINDOW)

    @property
    def is_of_an_older_version(self) -> bool:
        """Whether a file of the table lacks the checks: Polars reads no pattern over files of two schemas."""
        files = self._frames(["table_name"], self._files())
        return any(_CHECK not in _stored_columns(path) for path in files)

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
        """Makes this run's files one, or all of the table's when they have become many.

        Killed in between, it leaves windows twice, which the next run's `mend` sees.
        """
        self.flush()
        if self._parts:
            parts = self._files() if len(self._files()) > _MOST_FILES else self._parts
            frames = self._frames(SCHEMA.names(), parts)
            if len(frames) > 1:
                run_id = self._parts[0].stem.rpartition("-")[0]
                self._write(f"{run_id}.parquet", pl.concat(frames.values()).sort("first_rowid"))
                for path in frames:
                    path.unlink()
        self._parts = []
        files.remove_leftovers(self.directory)

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("*.parquet"))

    def _frames(self, columns: Sequence[str], files: Sequence[Path]) -> dict[Path, pl.DataFrame]:
        """Those columns (`table_name` among them) of the table's files, as far as they can be read."""
        frames = {path: frame for path in files if (frame := _readable(path, columns)) is not None}
        return {path: frame for path, frame in frames.items() if frame["table_name"].eq(self._table_name).all()}

    def _spoilt(self, columns: Sequence[str]) -> list[Path]:
        """Files of our name that cannot be read: what they held is written again from the ledgers."""
        ours = [path for path in self._files() if _OUR_NAME.fullmatch(path.name)]
        return [path for path in ours if _readable(path, columns) is None]

    def _read(self, columns: Sequence[str]) -> pl.DataFrame:
        return pl.concat([SCHEMA.to_frame().select(columns), *self._frames(columns, self._files()).values()])

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
        frame = pl.DataFrame(rows, schema=SCHEMA)
        return frame.with_columns(_checks(frame))

    def _write(self, name: str, frame: pl.DataFrame) -> Path:
        path = self.directory / name
        contents = io.BytesIO()  # on a full disk Polars itself would raise an error that hides the reason
        frame.write_parquet(contents)
        try:
            self.directory.mkdir(exist_ok=True)
            files.replace(path, contents.getbuffer(), durable=True)
        except OSError as error:
            raise EtlError(
                f"{path}: cannot be written ({error.strerror}); the shards are safe; mend the cause and run again"
            ) from error
        return path


def intact(lines: pl.DataFrame) -> pl.Series:
    """Whether each line is as it was written; one without a check counts as intact."""
    return (lines[_CHECK] == _checks(lines)).fill_null(value=True)


def _checks(lines: pl.DataFrame) -> pl.Series:
    """Of each line 16 hexadecimal digits of the SHA-256 of its other cells, as JSON."""
    rows = (json.dumps(row, default=str).encode() for row in lines.drop(_CHECK).iter_rows())
    return pl.Series(_CHECK, [hashlib.sha256(row).hexdigest()[:16] for row in rows], dtype=pl.String)


def _facts(row: dict[str, Any]) -> tuple[Any, ...]:
    """What the ledgers know of a window."""
    by_shard = tuple((each["shard"], each["rows"]) for each in row["rows_by_shard"])
    return row["first_rowid"], row["last_rowid"], row["rows"], by_shard


def _stored_columns(path: Path) -> dict[str, pl.DataType]:
    with path.open("rb") as file:  # Polars takes a path for a pattern
        return dict(pl.read_parquet_schema(file))


def _readable(path: Path, columns: Sequence[str]) -> pl.DataFrame | None:
    """Those columns of a file of ours; None where it cannot be read, or has other columns."""
    try:
        stored = _stored_columns(path)
        if stored | {_CHECK: SCHEMA[_CHECK]} != dict(SCHEMA):
            return None
        with path.open("rb") as file:
            frame = pl.read_parquet(file, columns=[name for name in columns if name in stored])
            return pl.concat([SCHEMA.to_frame().select(columns), frame], how="diagonal")
    except (pl.exceptions.PolarsError, OSError):
        return None
