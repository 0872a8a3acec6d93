"""All shards as one Polars LazyFrame: columns, predicates and limits become part of each shard's SQL.

Do not scan in a process that migrates: two copies of SQLite, those of connectorx and ADBC, would have a file open.
"""

from __future__ import annotations

import re
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from etl.core import ranges
from etl.core.errors import EtlError, Refused
from etl.core.model import MIN_ROWID, LedgerLine, RowidRange, Table
from etl.core.routing import Key, is_blank, key_bytes
from etl.query import columns, splits, sql
from etl.query.columns import ColumnKind
from etl.query.predicate import Operand, to_sql
from etl.query.splits import SplitMerger
from etl.shards import found_set
from etl.shards.found_set import ShardSet
from etl.shards.manifest import Manifest
from etl.sources import schema
from etl.sqlite import connectorx, stdlib
from etl.sqlite.file_lock import SHARDS

_SPLIT_CELLS = 2_400_000
_SPLIT_BYTES = 64 << 20
_READERS = 2
_FEW_ROWS = 20_000
_SAMPLED_SHARDS = 8


def scan_shards(
    shard_dir: str | Path,
    *,
    table: str | None = None,
    shards: Sequence[int] | None = None,
    key: Key = None,
    mixed: Sequence[str] = (),
) -> pl.LazyFrame:
    """A LazyFrame over the rows of all shards, shard by shard in rowid order.

    `shards` reads only these shards. `key` reads only the shard of this key and returns the key's rows (`key=""`: the
    rows without a key). `table` is needed if the directory has shards of several tables.

    A column is Int64, Float64, String or Binary. A column of mixed storage classes, or of text in a UTF-16 file, is a
    struct (`storage_class`, `integer`, `real`, `bytes`; text as bytes in the file's encoding). The kind of a column is
    decided by a sample: if a later cell does not fit, collecting fails with a message that says to name the column in
    `mixed`.

    Windows of a running migration are left out until every requested shard has them, and so is a new column. Raises
    Refused or EtlError if a shard is missing, not finished, or of another set. Close a connection from `open_shard`
    before you collect from the same shard in the same process (the reason is in `etl.sqlite.file_lock`).
    """
    with SHARDS.exclusive():
        found = found_set.find(Path(shard_dir), table)
        chosen = sorted(set(shards)) if shards is not None else list(found.shard_map.shards)
        if key is not None:
            chosen = [shard for shard in chosen if shard == found.shard_of(key)]
        common = frozenset[str].intersection(*found.check(chosen or found.shard_map.shards[:1]))
        scan = replace(_scan_of(found, chosen, mixed, common), of_one_key=key is not None)
    frame = register_io_source(scan.frames, schema=scan.schema, validate_schema=True)
    return frame if key is None else frame.filter(_rows_of_key(found, scan, key))


def _rows_of_key(found: ShardSet, scan: _Scan, key: Key) -> pl.Expr:
    name, data = scan.table.key.name, key_bytes(key)
    # By position: pl.col takes names such as * and ^.*$ for patterns.
    column, dtype = pl.nth(scan.schema.names().index(name)), scan.schema[name]
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


def _warn_of_no_sql(names: Sequence[str]) -> None:
    """Python shows a warning of one text from one place once."""
    if names:
        warnings.warn(
            f"scan_shards: a filter on {', '.join(sorted(names))} has no form in SQL: every row of these shards is "
            "read, then filtered; docs/queries.md says which filters become SQL",
            stacklevel=1,
        )


def _scan_of(found: ShardSet, shards: Sequence[int], mixed: Sequence[str], common: frozenset[str]) -> _Scan:
    """Samples the table in up to eight of the shards, evenly spaced."""
    sampled = shards[:: -(-len(shards) // _SAMPLED_SHARDS) or 1] or found.shard_map.shards[:1]
    tables = [
        schema.inspect(found.path(shard), found.table, found.identity.shard_key, opened=stdlib.shard)[0]
        for shard in sampled
    ]
    columns_of = [[column for column in table.columns if column.name in common] for table in tables]
    names = [column.name for column in columns_of[0]]
    if unknown := set(mixed) - set(names):
        raise Refused(f"{found.directory}: mixed={sorted(unknown)}: expected columns of {found.table}: {names}")
    variants = set(mixed) | Manifest(found.directory, found.table).widened()
    kinds = {}
    for same in zip(*columns_of, strict=True):
        column = replace(same[0], storage_classes=frozenset().union(*(each.storage_classes for each in same)))
        kind = columns.kind_of(column, tables[0].encoding)
        kinds[column.name] = ColumnKind.VARIANT if column.name in variants else kind
    return _Scan(found, tuple(shards), tables[0], kinds, mixed=tuple(mixed))


@dataclass(frozen=True, slots=True)
class _Scan:
    """Reads the rows of one LazyFrame."""

    found: ShardSet
    shards: tuple[int, ...]
    table: Table
    kinds: dict[str, ColumnKind]
    mixed: tuple[str, ...]
    of_one_key: bool = False
    """Whether the caller gave `key`, so that a filter is always there."""

    @property
    def schema(self) -> pl.Schema:
        return pl.Schema({name: kind.dtype for name, kind in self.kinds.items()})

    def frames(
        self, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        """The rows as a series of frames. As in Polars, `n_rows` counts rows before the predicate."""
        names = list(self.kinds) if with_columns is None else with_columns
        where = to_sql(predicate, self._operands()) if predicate is not None and n_rows is None else None
        if predicate is not None and where is None and n_rows is None and not self.of_one_key:
            _warn_of_no_sql(predicate.meta.root_names())
        left = n_rows
        empty = pl.DataFrame(schema={name: self.kinds[name].dtype for name in names})
        yield empty if predicate is None else empty.filter(predicate)
        with closing(self._in_order(names, where, n_rows)) as frames:
            for frame in frames:
                head = frame if left is None else frame.head(left)
                yield head if predicate is None else head.filter(predicate)
                if left is not None:
                    left -= head.height
                    if left <= 0:
                        return

    def _in_order(
        self, names: Sequence[str], where: str | None, n_rows: int | None
    ) -> Generator[pl.DataFrame, None, None]:
        """Reads the splits in a few threads, slightly ahead of the consumer."""
        limit = -1 if n_rows is None else n_rows
        pool = ThreadPoolExecutor(_READERS, thread_name_prefix="etl")
        try:
            waiting: deque[Future[pl.DataFrame]] = deque()
            merger = SplitMerger(few_rows=_FEW_ROWS if where else 0)
            for shard, shard_splits in self._splits(len(names)):
                while shard_splits:
                    waiting.append(pool.submit(self._read, shard, merger.take(shard_splits), names, where, limit))
                    if len(waiting) > _READERS:
                        frame = waiting.popleft().result()
                        merger.adapt(frame)
                        yield frame
            while waiting:
                yield waiting.popleft().result()
        finally:
            # Do not wait: the garbage collector may close an abandoned scan in one of these threads.
            pool.shutdown(wait=False, cancel_futures=True)

    def _splits(self, width: int) -> Iterator[tuple[int, deque[RowidRange]]]:
        """Each shard with the rowid ranges to read, each of about 64 MB at most."""
        with SHARDS.exclusive():
            extents = {shard: self.found.extent(shard, self.table) for shard in self.shards}
        common = self.found.common([extent.coverage for extent in extents.values()])
        for shard, extent in extents.items():
            if extent.last_rowid is None:
                continue
            # A migration may add rows above this rowid while the scan reads: some shards would show them, others not.
            wanted = ranges.intersect(common, (RowidRange(MIN_ROWID, extent.last_rowid),))
            rows = extent.rows
            size = self.found.path(shard).stat().st_size
            max_rows = min(_SPLIT_CELLS // max(1, width), max(1, _SPLIT_BYTES * rows // max(size, 1)))
            lines: Sequence[LedgerLine] = ()
            if rows > max_rows:
                with SHARDS.exclusive():
                    lines = self.found.ledger(shard)
            yield (
                shard,
                deque(part for each in splits.split(lines, max_rows) for part in ranges.intersect(wanted, (each,))),
            )

    def _read(
        self, shard: int, rowids: RowidRange, names: Sequence[str], where: str | None, limit: int
    ) -> pl.DataFrame:
        cells = [(name, cell) for name in names for cell in sql.scan_cells(name, self.kinds[name].value).items()]
        query = sql.scan(self.table, [cell for _, cell in cells], rowids, where=where, limit=limit)
        path = self.found.path(shard)
        try:
            with SHARDS.shared(path):
                arrow = connectorx.read(path, [query])
        except connectorx.CellRefused as refused:
            name = cells[refused.result_column - 1][0]
            raise EtlError(
                f"{path}: column {name}: expected cells that fit {self.kinds[name].dtype}, found others; scan "
                f"with mixed={sorted({*self.mixed, name})}, which carries every cell"
            ) from None
        except connectorx.ReadFailed as error:
            raise EtlError(f"{path}: reading failed ({error}); try again when the shard can be read") from None
        except connectorx.TooManyBytes:
            if rowids.span == 1:
                raise EtlError(f"{path}: the row {rowids.first_rowid} is too big to be read") from None
            return pl.concat([self._read(shard, half, names, where, limit) for half in ranges.halves(rowids)])
        frame = pl.DataFrame(pl.from_arrow(arrow)).filter(pl.col("sentinel") == 0)
        return frame.select(columns.expressions(self.kinds, names))

    def _operands(self) -> dict[str, Operand]:
        bytewise = self.table.encoding == "UTF-8"
        return {
            column.name: Operand(self.kinds[column.name].dtype, column.affinity, bytewise)
            for column in self.table.columns
        }
