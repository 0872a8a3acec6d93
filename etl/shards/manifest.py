"""The Parquet manifest: one line for each completed window, for people. It is derived from the ledgers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from etl.core import ranges
from etl.core.errors import EtlError
from etl.core.model import RowidRange
from etl.runtime import files
from etl.shards import manifest_schema
from etl.shards.ledger_arrays import Ledger
from etl.shards.manifest_schema import SCHEMA

_WINDOW = ("table_name", "first_rowid", "last_rowid")
_FILE_NAME = re.compile(r"(?:\d{8}T\d{6}\.\d{6}Z-\d+(?:-\d{6})?|(?:again-)*(?:mended|rebuilt|joined)-\d+)\.parquet")
"""Files of a run, of a part of a run, and of a manifest that was written again."""
_MOST_FILES = 50
"""A run that finds more files merges them into one: with hourly runs the manifest stays readable for years."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A completed window. In an entry that is rebuilt from the ledgers, what only the run knew is None."""

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
    """The files `SHARD_DIR/manifest/*.parquet`: one for each run, and several small ones while a run is at work.

    Shards of several tables may share a directory; each file belongs to one table, and only that table's runs touch
    it. A file with other columns and another name does not belong to the manifest: it stays, and is not read.
    """

    def __init__(self, shard_dir: Path, table_name: str) -> None:
        self.directory = shard_dir / "manifest"
        self._table_name = table_name
        self._waiting: list[Entry] = []
        self._parts: list[Path] = []

    def lines(self) -> pl.DataFrame:
        """All lines of the files that can be read."""
        return self._read(SCHEMA.names())

    def coverage(self) -> ranges.Coverage:
        """The windows that the manifest has, adjacent ones merged; files that cannot be read count as lost."""
        return self._ledger(manifest_schema.without_overlaps(self._read(_WINDOW))).coverage

    def windows(self) -> list[RowidRange]:
        """The windows of `entries`."""
        return self._ledger(manifest_schema.without_overlaps(self._read(_WINDOW))).windows

    def rows(self) -> dict[int, int]:
        """Shard number → rows of all windows."""
        by_shard = self.entries().select(pl.col("rows_by_shard").explode().struct.unnest())
        return dict(by_shard.group_by("shard").agg(pl.col("rows").sum()).drop_nulls().iter_rows())

    def entries(self) -> pl.DataFrame:
        """The lines, each window once, ascending by rowid."""
        return manifest_schema.without_overlaps(self.lines())

    @property
    def height(self) -> int:
        """The number of lines."""
        return self._read(_WINDOW).height

    def widened(self) -> set[str]:
        """The columns that some window read as variants."""
        lists = self.lines()["widened"].drop_nulls().to_list()
        return {name for names in lists for name in names}

    def correct(self, right: ranges.Coverage, missing: Iterable[Entry]) -> None:
        """Rewrites the manifest as one file: the lines within `right`, each window once, and the missing entries."""
        added = self._frame(missing)
        right = ranges.subtract(right, self._ledger(added.sort("first_rowid")).coverage)
        lines = self.entries()
        kept = [ranges.covers(right, RowidRange(*row)) for row in lines.select("first_rowid", "last_rowid").iter_rows()]
        frame = pl.concat([lines.filter(pl.Series(kept, dtype=pl.Boolean)), added]).sort("first_rowid")
        self._supersede("mended", frame)

    def _supersede(self, kind: str, frame: pl.DataFrame) -> None:
        """Writes the frame into a new file, then removes the table's other files."""
        old = [*self._frames(SCHEMA.names(), self._files()), *self._unreadable(SCHEMA.names())]
        name = f"{kind}-{len(old)}.parquet"
        taken = set(self._files())
        while self.directory / name in taken:
            name = f"again-{name}"
        if frame.height:
            self._write(name, frame)
        for path in old:
            path.unlink()

    def rebuild(self, entries: Iterable[Entry]) -> None:
        """Rewrites the manifest as one file of these entries; intact lines that agree with them stay as they are.

        Milliseconds and bytes are only in the manifest; the ledgers do not have them.
        """
        lines = self.lines()
        facts = manifest_schema.ledger_facts
        kept = {facts(line): line for line in lines.filter(manifest_schema.intact(lines)).to_dicts()}
        rebuilt = [kept.get(facts(line), line) for line in self._frame(entries).to_dicts()]
        self._supersede("rebuilt", pl.DataFrame(rebuilt, schema=SCHEMA))

    def is_sound(self, done: ranges.Coverage) -> bool:
        """Whether it has each window of `done` once and no others, and all its files can be read."""
        lines = self._read(_WINDOW)
        once = manifest_schema.without_overlaps(lines)
        is_exact = once.height == lines.height and self._ledger(once).coverage == done
        return is_exact and not self._unreadable(_WINDOW)

    def join(self, windows: Ledger) -> None:
        """Joins the lines that make up one of these windows; a line that was edited stays, and so do its neighbours.

        A kill in between leaves joined lines beside those that they replace; the next run finds and corrects that.
        """
        lines = self.entries()
        joined = manifest_schema.joined(lines, windows)
        if joined.height < lines.height:
            self._supersede("joined", joined)

    @property
    def is_of_an_older_version(self) -> bool:
        """Whether a file of the table lacks the checks: Polars cannot read files of two schemas with one pattern."""
        return not all(map(manifest_schema.has_checks, self._frames(["table_name"], self._files())))

    def add(self, entry: Entry) -> None:
        """Keeps an entry for the next `flush`."""
        self._waiting.append(entry)

    @property
    def waiting(self) -> int:
        """The number of entries that are not yet in a file."""
        return len(self._waiting)

    def flush(self) -> None:
        """Writes the waiting entries into a new file."""
        if self._waiting:
            name = f"{self._waiting[-1].run_id}-{len(self._parts):06d}.parquet"
            self._parts.append(self._write(name, self._frame(self._waiting)))
            self._waiting = []

    def compact(self) -> None:
        """Merges this run's files into one, or all files of the table when there are too many.

        A kill in between leaves windows twice; the next run finds and corrects that.
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
        """These columns (`table_name` among them) of each file of the table that can be read."""
        frames = {path: frame for path in files if (frame := manifest_schema.read(path, columns)) is not None}
        return {path: frame for path, frame in frames.items() if frame["table_name"].eq(self._table_name).all()}

    def _unreadable(self, columns: Sequence[str]) -> list[Path]:
        """Files with a name of the manifest that cannot be read: the ledgers still have what they held."""
        named = [path for path in self._files() if _FILE_NAME.fullmatch(path.name)]
        return [path for path in named if manifest_schema.read(path, columns) is None]

    def _read(self, columns: Sequence[str]) -> pl.DataFrame:
        return pl.concat([SCHEMA.to_frame().select(columns), *self._frames(columns, self._files()).values()])

    def _ledger(self, lines: pl.DataFrame) -> Ledger:
        """The ends of lines that are disjoint and ascend."""
        first, last = (lines[name].to_numpy() for name in _WINDOW[1:])
        return Ledger(first, last, np.zeros(len(first), np.int64))

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
        return manifest_schema.with_checks(pl.DataFrame(rows, schema=SCHEMA))

    def _write(self, name: str, frame: pl.DataFrame) -> Path:
        path = self.directory / name
        contents = io.BytesIO()  # on a full disk Polars would raise an error that hides the reason
        frame.write_parquet(contents)
        try:
            self.directory.mkdir(exist_ok=True)
            files.replace(path, contents.getbuffer(), durable=True)
        except OSError as error:
            raise EtlError(
                f"{path}: cannot be written ({error.strerror}); the shards are safe; fix the cause and run again"
            ) from error
        return path
