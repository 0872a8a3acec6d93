"""Ways to spoil finished shards, by name, and what a verification must make of each."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tests.oracle import opened
from tests.workplace import shard_files

Environ = Mapping[str, str]
ROWS = 2_000  # in windows of 100
PAGE_BYTES = 16_384
BY_SHARD = pl.Struct({"shard": pl.Int64, "rows": pl.Int64})


def spoil(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def rowids(path: Path) -> set[int]:
    with closing(opened(path)) as database:
        return {rowid for (rowid,) in database.execute("SELECT rowid FROM clients")}


def home(environ: Environ, rowid: int) -> Path:
    """The shard that has the row."""
    return next(path for path in shard_files(environ) if rowid in rowids(path))


def other(environ: Environ, rowid: int) -> Path:
    """A shard that has it not."""
    return next(path for path in shard_files(environ) if rowid not in rowids(path))


def at(rowid: int, *statements: str) -> Callable[[Environ], None]:
    """Statements in the shard that has the row."""
    return lambda environ: spoil(home(environ, rowid), *statements)


def every(*statements: str) -> Callable[[Environ], None]:
    def apply(environ: Environ) -> None:
        for path in shard_files(environ):
            spoil(path, *statements)

    return apply


def first(*statements: str) -> Callable[[Environ], None]:
    return lambda environ: spoil(shard_files(environ)[0], *statements)


def copy(rowid: int, *, changes: str = "note", move: bool = False) -> Callable[[Environ], None]:
    """Put the row into another shard as well, or instead."""

    def apply(environ: Environ) -> None:
        source, target = home(environ, rowid), other(environ, rowid)
        row = f"SELECT rowid, k, INN, {changes}, amount FROM there.clients WHERE rowid = {rowid}"
        with closing(sqlite3.connect(target)) as database:
            database.execute("ATTACH ? AS there", (str(source),))
            with database:
                database.execute(f"INSERT INTO clients (rowid, k, INN, note, amount) {row}")
                if move:
                    database.execute(f"DELETE FROM there.clients WHERE rowid = {rowid}")

    return apply


def misplace_and_fit(environ: Environ) -> None:
    before, after = home(environ, 205), other(environ, 205)
    copy(205, move=True)(environ)
    spoil(before, "UPDATE _etl_windows SET rows = rows - 1 WHERE first_rowid = 201")
    spoil(after, "UPDATE _etl_windows SET rows = rows + 1 WHERE first_rowid = 201")


def together(*damages: Callable[[Environ], None]) -> Callable[[Environ], None]:
    def apply(environ: Environ) -> None:
        for damage in damages:
            damage(environ)

    return apply


def manifest_file(environ: Environ) -> Path:
    (path,) = Path(environ["SHARD_DIR"], "manifest").glob("*.parquet")
    return path


def rewrite_manifest(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Environ], None]:
    def apply(environ: Environ) -> None:
        path = manifest_file(environ)
        change(pl.read_parquet(path)).write_parquet(path)

    return apply


def garble_manifest(environ: Environ) -> None:
    manifest_file(environ).write_bytes(b"x")


@dataclass(frozen=True)
class Damage:
    apply: Callable[[Environ], None]
    counts: Mapping[str, int]
    rowids: Mapping[str, Sequence[int]] = field(default_factory=dict)
    windows: int = 0
    """How many have rows or ledger lines that a repair has to write again."""
    foreign: int = 0
    """How many of its extra rows no run wrote."""


def _changed(*statements: str, rowid: int = 205) -> Damage:
    return Damage(at(rowid, *statements), {"changed": 1}, {"changed": [rowid]}, 1)


def _edited(cells: pl.Expr) -> Damage:
    return Damage(rewrite_manifest(lambda frame: frame.with_columns(cells)), {"manifest": 1})


DAMAGES = {
    "a changed text": _changed("UPDATE clients SET note = note || '.' WHERE rowid = 205"),
    "a blob for a text": _changed("UPDATE clients SET note = CAST(note AS BLOB) WHERE rowid = 205"),
    "an empty text for NULL": _changed("UPDATE clients SET note = NULL WHERE rowid = 205"),
    "a lost bit of a real": _changed("UPDATE clients SET amount = amount + 1e-13 WHERE rowid = 205"),
    "a blob for a real": _changed("UPDATE clients SET amount = CAST(amount AS BLOB) WHERE rowid = 205"),
    "a trimmed key": _changed("UPDATE clients SET k = substr(k, 2) WHERE rowid = 205"),
    "a lost key": _changed("UPDATE clients SET k = NULL WHERE rowid = 205"),
    "cells swapped between columns": _changed("UPDATE clients SET INN = note, note = INN WHERE rowid = 205"),
    "a missing row": Damage(
        at(7, "DELETE FROM clients WHERE rowid = 7"), {"missing": 1, "ledger": 1}, {"missing": [7]}, 1
    ),
    "a missing row, the ledger made to fit": Damage(
        at(
            7,
            "DELETE FROM clients WHERE rowid = 7",
            "UPDATE _etl_windows SET rows = rows - 1 WHERE first_rowid = 1",
        ),
        {"missing": 1, "manifest": 1},
        {"missing": [7]},
        1,
    ),
    "the last row missing": Damage(
        at(ROWS, f"DELETE FROM clients WHERE rowid = {ROWS}"), {"missing": 1, "ledger": 1}, {"missing": [ROWS]}, 1
    ),
    "another rowid": Damage(
        at(7, "UPDATE clients SET rowid = -7 WHERE rowid = 7"),
        {"missing": 1, "extra": 1, "ledger": 1},
        {"missing": [7], "extra": [-7]},
        1,
        foreign=1,
    ),
    "extra rows above and below": Damage(
        first("INSERT INTO clients (rowid, k) VALUES (-9223372036854775808, 'a'), (-1, 'a'), (0, 'b'), (5000, 'c')"),
        {"extra": 4},
        {"extra": [-(2**63), -1, 0, 5000]},
        foreign=4,
    ),
    "a misplaced row": Damage(copy(205, move=True), {"misplaced": 1, "ledger": 2}, {"misplaced": [205]}, 1),
    "a misplaced row, the ledgers made to fit": Damage(
        misplace_and_fit, {"misplaced": 1, "manifest": 1}, {"misplaced": [205]}, 1
    ),
    "a row in two shards": Damage(copy(205), {"duplicated": 1, "ledger": 1}, {"duplicated": [205]}, 1),
    "a row in two shards, one other": Damage(
        copy(205, changes="'other'"), {"duplicated": 1, "ledger": 1}, {"duplicated": [205]}, 1, foreign=1
    ),
    "a missing row, and another one in two shards: the sum is right": Damage(
        together(at(7, "DELETE FROM clients WHERE rowid = 7"), copy(8)),
        {"missing": 1, "duplicated": 1, "ledger": 2},
        {"missing": [7], "duplicated": [8]},
        1,
    ),
    "cells exchanged between two rows": Damage(
        at(
            205,
            "CREATE TEMP TABLE two AS SELECT rowid AS id, amount FROM clients WHERE rowid IN (205, 208)",
            "UPDATE clients SET amount = (SELECT t.amount FROM two AS t WHERE t.id <> clients.rowid) "
            "WHERE rowid IN (SELECT id FROM two)",
        ),
        {"changed": 2},
        {"changed": [205, 208]},
        1,
    ),
    "rowids exchanged between two rows": Damage(
        at(
            205,
            "CREATE TEMP TABLE two AS SELECT rowid AS id FROM clients WHERE rowid IN (205, 208)",
            "UPDATE clients SET rowid = -rowid WHERE rowid IN (SELECT id FROM two)",
            "UPDATE clients SET rowid = (SELECT t.id FROM two AS t WHERE t.id <> -clients.rowid) WHERE rowid < 0",
        ),
        {"changed": 2},
        {"changed": [205, 208]},
        1,
    ),
    "damage in two far windows": Damage(
        every("UPDATE clients SET note = 'other' WHERE rowid IN (301, 1501)"),
        {"changed": 2},
        {"changed": [301, 1501]},
        2,
    ),
    "more rows than are listed": Damage(
        every("UPDATE clients SET note = 'other' WHERE rowid BETWEEN 401 AND 450"),
        {"changed": 50},
        {"changed": list(range(401, 421))},
        1,
    ),
    "a wrong count in the ledger": Damage(
        first("UPDATE _etl_windows SET rows = rows + 1 WHERE first_rowid = 101"), {"ledger": 1, "manifest": 1}, {}, 1
    ),
    "a lost line in one ledger": Damage(
        first("DELETE FROM _etl_windows WHERE first_rowid = 101"), {"ledger": 1, "manifest": 1}, {}, 1
    ),
    "a lost line in every ledger": Damage(
        every("DELETE FROM _etl_windows WHERE first_rowid = 101"),
        {"extra": 100, "manifest": 1},
        {"extra": list(range(101, 121))},
        foreign=100,
    ),
    "a strange line in a ledger": Damage(
        first("UPDATE _etl_windows SET last_rowid = 250 WHERE first_rowid = 101"), {"ledger": 2, "manifest": 1}, {}, 2
    ),
    "a lost index": Damage(first("DROP INDEX idx_clients_k"), {"index": 1}),
    "another index of that name": Damage(
        first("DROP INDEX idx_clients_k", "CREATE INDEX idx_clients_k ON clients (note)"), {"index": 1}
    ),
    "another journal": Damage(first("PRAGMA journal_mode = DELETE"), {"schema": 1}),
    "another user_version": Damage(first("PRAGMA user_version = 9", "PRAGMA application_id = 8"), {"schema": 2}),
    "a lost manifest": Damage(lambda environ: manifest_file(environ).unlink(), {"manifest": 1}),
    "a garbled manifest": Damage(garble_manifest, {"manifest": 1}),
    "a lost line in the manifest": Damage(rewrite_manifest(lambda frame: frame[1:]), {"manifest": 1}),
    "a line twice in the manifest": Damage(
        rewrite_manifest(lambda frame: pl.concat([frame, frame[:1]])), {"manifest": 1}
    ),
    "a wrong sum in the manifest": Damage(
        rewrite_manifest(lambda frame: frame.with_columns(pl.col("rows") + 1)), {"manifest": 1}
    ),
    "a shard that does not exist in the manifest": Damage(
        rewrite_manifest(
            lambda frame: frame.with_columns(
                pl.concat_list("rows_by_shard", pl.struct(shard=pl.lit(99), rows=pl.lit(0)).cast(BY_SHARD)),
                check=pl.lit(None, pl.String),
            )
        ),
        {"manifest": 1},
    ),
    "an edited run_id in the manifest": _edited(pl.col("run_id") + "0"),
    "edited bytes in the manifest": _edited(pl.col("bytes") + 1),
    "an edited time in the manifest": _edited(pl.lit(0.5).alias("read_ms")),
    "an edited moment in the manifest": _edited(pl.col("started_at").dt.offset_by("1us")),
    "edited columns in the manifest": _edited(pl.lit(["k"]).alias("widened")),
    "shards exchanged in the manifest": Damage(
        rewrite_manifest(lambda frame: frame.with_columns(pl.col("rows_by_shard").list.reverse())), {"manifest": 1}
    ),
}


def garble(environ: Environ) -> None:
    shard_files(environ)[0].write_bytes(b"noise" * 5000)


def cut(environ: Environ) -> None:
    path = shard_files(environ)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // (2 * PAGE_BYTES) * PAGE_BYTES])


def remove(environ: Environ) -> None:
    shard_files(environ)[0].unlink()


def replace(environ: Environ) -> None:
    remove(environ)
    spoil(Path(environ["SHARD_DIR"]) / "clients_shard_00.db", "CREATE TABLE clients (k)")


def add_a_column(environ: Environ) -> None:
    spoil(shard_files(environ)[0], "ALTER TABLE clients ADD strange TEXT")


def overwrite(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset // PAGE_BYTES * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)


def overwrite_an_index(environ: Environ) -> None:
    path = shard_files(environ)[0]
    overwrite(path, path.stat().st_size - PAGE_BYTES)  # indexes are built last


def overwrite_rows(environ: Environ) -> None:
    path = shard_files(environ)[0]
    overwrite(path, path.read_bytes().rindex(b"x" * 40))  # a note, which no index has


FILE_DAMAGES: dict[str, Callable[[Environ], None]] = {
    "noise": garble,
    "cut in half": cut,
    "gone": remove,
    "another database": replace,
    "a column more": add_a_column,
    "a page of an index overwritten": overwrite_an_index,
    "a page of rows overwritten": overwrite_rows,
}
