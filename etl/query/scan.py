"""The shards as one Polars LazyFrame: columns, predicates and limits go into each shard's SQL, read by connectorx.

For a process that migrates nothing: there a shard's file would belong to another copy of SQLite.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote as url_quote

os.environ.setdefault("RUST_LOG", "off")  # connectorx's pool prints to the console otherwise; read at its import

import connectorx
import polars as pl
from polars.io.plugins import register_io_source

from etl.core import ranges
from etl.core.errors import EtlError, Refused
from etl.core.model import MIN_ROWID, LedgerLine, RowidRange, Table
from etl.core.routing import Key, is_blank, key_bytes
from etl.query import columns, splits, sql
from etl.query.columns import View
from etl.query.predicate import Operand, to_sql
from etl.query.splits import Stride
from etl.shards import found_set
from etl.shards.found_set import ShardSet
from etl.shards.manifest import Manifest
from etl.sources import schema
from etl.sqlite import stdlib
from etl.sqlite.file_lock import Turns
from etl.sqlite.rate_limit import Throttle

_PIECE_CELLS = 2_400_000
_PIECE_BYTES = 64 << 20
_READERS = 2
_FEW_ROWS = 20_000
_SAMPLED_SHARDS = 8
_CALLS = Throttle(calls=2_000, seconds=31)
"""connectorx leaves three idle threads for 30 s after each call; 10,000 calls at once fail."""
_TURNS = Turns()
_REFUSED_CELL = re.compile(r"(?:Invalid column type|Conversion error from type) \w+ at index: (\d+)")


def scan_shards(
    shard_dir: str | Path,
    *,
    table: str | None = None,
    shards: Sequence[int] | None = None,
    key: Key = None,
    mixed: Sequence[str] = (),
) -> pl.LazyFrame:
    """A LazyFrame over the rows of all shards, shard by shard in rowid order.

    `shards` reads only those; `key` reads only the shard of that key, and gives its rows (`key=""`: the rows without
    one). `table` is needed where the directory has shards of several tables. Columns have the dtype of their lane:
    Int64, Float64, String or Binary. One of mixed storage classes, or of text in a UTF-16 file, is a struct
    (`storage_class`, `integer`, `real`, `bytes`; text as bytes of the file's encoding); one that shows them only where
    no sample looked fails when it is read, with the line that says to name it in `mixed`.

    Windows of a run that is on its way are left out until every shard asked for has them. Raises Refused or EtlError
    where a shard is lost, is not finished, or is not one of this set. Close what `open_shard` gave for a shard before
    you collect from it in the same process (`etl.sqlite.file_lock` says why).
    """
    with _TURNS.look():
        found = found_set.find(Path(shard_dir), table)
        chosen = sorted(set(shards)) if shards is not None else list(found.shard_map.shards)
        if key is not None:
            chosen = [shard for shard in chosen if shard == found.shard_of(key)]
        found.check(chosen)
        scan = _scan_of(found, chosen, mixed)
    frame = register_io_source(scan.frames, schema=scan.schema, validate_schema=True)
    return frame if key is None else frame.filter(_has_key(found, scan.schema, key))


def _has_key(found: ShardSet, dtypes: pl.Schema, key: Key) -> pl.Expr:
    name, data = found.identity.shard_key, key_bytes(key)
    column, dtype = pl.col(name), dtypes[name]
    match dtype:
        case pl.String() if is_blank(data):
            return column.is_null() | (column.str.strip_chars() == "")
        case pl.Int64() | pl.Float64() if is_blank(data):
            return column.is_null()
        case pl.String():
            return column == data.decode(errors="surrogateescape")
        case pl.Binary() if not is_blank(data):
            return column == data
        case pl.Int64() if re.fullmatch(rb"0|-?[1-9]\d{0,18}", data):
            return column == int(data)
        case pl.Float64() if isinstance(key, float):
            return column == key
    raise Refused(
        f"{found.directory}: key=: expected a key of the column {name}'s own kind ({dtype}); or choose the shard with "
        "shards=[etl.shard_of(…)] and filter it"
    )


def _scan_of(found: ShardSet, shards: Sequence[int], mixed: Sequence[str]) -> _Scan:
    """Looks at the table in some of the shards, spread over those asked for."""
    looked = shards[:: -(-len(shards) // _SAMPLED_SHARDS) or 1] or found.shard_map.shards[:1]
    tables = [schema.look(found.path(shard), found.table, found.identity.shard_key)[0] for shard in looked]
    names = [column.name for column in tables[0].columns]
    if unknown := set(mixed) - set(names):
        raise Refused(f"{found.directory}: mixed={sorted(unknown)}: expected columns of {found.table}: {names}")
    wide = set(mixed) | Manifest(found.directory, found.table).widened()
    views = {}
    for same in zip(*(table.columns for table in tables), strict=True):
        classes = frozenset[str]().union(*(column.storage_classes for column in same)) - {"null"}
        seen = columns.of(same[0], classes, tables[0].rowid_column)
        # As in the lanes: a text that is no UTF-16 becomes another one on its way through UTF-8, without an error.
        is_wide = same[0].name in wide or (seen is View.TEXT and tables[0].encoding != "UTF-8")
        views[same[0].name] = View.VARIANT if is_wide else seen
    return _Scan(found, tuple(shards), tables[0], views, mixed=tuple(mixed))


@dataclass(frozen=True, slots=True)
class _Scan:
    """One LazyFrame's source."""

    found: ShardSet
    shards: tuple[int, ...]
    table: Table
    views: dict[str, View]
    mixed: tuple[str, ...]

    @property
    def schema(self) -> pl.Schema:
        return pl.Schema({name: seen.dtype for name, seen in self.views.items()})

    def frames(
        self, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        """The rows in pieces. As Polars has it, `n_rows` counts rows before the predicate."""
        names = list(self.views) if with_columns is None else with_columns
        where = to_sql(predicate, self._operands()) if predicate is not None and n_rows is None else None
        left = n_rows
        nothing = pl.DataFrame(schema={name: self.views[name].dtype for name in names})
        yield nothing if predicate is None else nothing.filter(predicate)
        with closing(self._in_order(names, where, n_rows)) as frames:
            for frame in frames:
                some = frame if left is None else frame.head(left)
                yield some if predicate is None else some.filter(predicate)
                if left is not None:
                    left -= some.height
                    if left <= 0:
                        return

    def _in_order(
        self, names: Sequence[str], where: str | None, n_rows: int | None
    ) -> Generator[pl.DataFrame, None, None]:
        """Pieces are read by a few threads, each a little ahead of what has been taken."""
        limit = -1 if n_rows is None else n_rows
        pool = ThreadPoolExecutor(_READERS, thread_name_prefix="etl")
        try:
            waiting: deque[Future[pl.DataFrame]] = deque()
            stride = Stride(few_rows=_FEW_ROWS if where else 0)
            for shard, cuts in self._cuts(len(names)):
                while cuts:
                    waiting.append(pool.submit(self._read, shard, stride.take(cuts), names, where, limit))
                    if len(waiting) > _READERS:
                        yield stride.seen(waiting.popleft().result())
            while waiting:
                yield waiting.popleft().result()
        finally:
            # Not waiting: a scan that is dropped midway may be cleared away by one of these very threads.
            pool.shutdown(wait=False, cancel_futures=True)

    def _cuts(self, width: int) -> Iterator[tuple[int, deque[RowidRange]]]:
        """Each shard with the ranges that it is read in, of so many rows that a piece has some 64 MB at most."""
        with _TURNS.look():
            extents = {shard: self.found.extent(shard, self.table) for shard in self.shards}
        common = self.found.common([extent.coverage for extent in extents.values()])
        for shard, extent in extents.items():
            if extent.last_rowid is None:
                continue
            # What a run commits from now on is above: some shards would have been read before it, and some after.
            wanted = ranges.intersect(common, (RowidRange(MIN_ROWID, extent.last_rowid),))
            rows = extent.rows
            size = self.found.path(shard).stat().st_size
            most_rows = min(_PIECE_CELLS // max(1, width), max(1, _PIECE_BYTES * rows // max(size, 1)))
            lines: Sequence[LedgerLine] = ()
            if rows > most_rows:
                with _TURNS.look():
                    lines = self.found.ledger(shard)
            yield (
                shard,
                deque(piece for cut in splits.cut(lines, most_rows) for piece in ranges.intersect(wanted, (cut,))),
            )

    def _read(self, shard: int, piece: RowidRange, names: Sequence[str], where: str | None, limit: int) -> pl.DataFrame:
        cells = [(name, cell) for name in names for cell in sql.scan_cells(name, self.views[name].value).items()]
        query = sql.scan(self.table, [cell for _, cell in cells], piece, where=where, limit=limit)
        path = self.found.path(shard)
        _CALLS.wait()
        try:
            with _TURNS.read():
                arrow = connectorx.read_sql(_uri(path), query, return_type="arrow")
        except RuntimeError as error:
            message = str(error).splitlines()[0]
            if refused := _REFUSED_CELL.search(message):
                name = cells[int(refused[1]) - 1][0]
                raise EtlError(
                    f"{path}: column {name}: expected cells that fit {self.views[name].dtype}, found others; scan "
                    f"with mixed={sorted({*self.mixed, name})}, which carries every cell"
                ) from None
            reason = message.partition(" in SELECT")[0]
            raise EtlError(f"{path}: reading failed ({reason}); try again when the shard can be read") from None
        except BaseException as error:
            # connectorx panics past 2 GiB of text in one of its batches; the panic's class cannot be imported.
            if type(error).__name__ != "PanicException" or piece.span == 1:
                raise
            halves = [self._read(shard, half, names, where, limit) for half in ranges.halves(piece)]
            return pl.concat(halves)
        frame = pl.DataFrame(pl.from_arrow(arrow)).filter(pl.col("sentinel") == 0)
        return frame.select(columns.columns(self.views, names))

    def _operands(self) -> dict[str, Operand]:
        bytewise = self.table.encoding == "UTF-8"
        return {
            column.name: Operand(self.views[column.name].dtype, column.affinity, bytewise)
            for column in self.table.columns
        }


def _uri(path: Path) -> str:
    return "sqlite://" + url_quote(stdlib.read_only_uri(path), safe="")
