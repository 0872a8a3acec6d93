"""Whole tables drawn by hypothesis, hostile in names, types, keys, rowids and cells, and the file that holds one."""

import math
import sqlite3
import string
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from hypothesis import assume
from hypothesis import strategies as st

from tests.cells import MOST, Cell, RawText, cells, rowids
from tests.oracle import quoted, rowid_name

Row: TypeAlias = tuple[Cell, ...]


@dataclass(frozen=True)
class Column:
    name: str
    declared: str
    suffix: str = ""  # what follows the type: PRIMARY KEY, or a generated column's expression

    @property
    def generated(self) -> bool:
        return self.suffix.startswith("AS ")


@dataclass(frozen=True)
class Table:
    name: str
    columns: tuple[Column, ...]
    constraint: str
    strict: bool
    rowid_column: bool  # the first column is the rowid
    key: str
    encoding: str
    journal: str
    rows: tuple[tuple[int, Row], ...]
    later: tuple[Row, ...]  # to be appended above the greatest rowid

    @property
    def ddl(self) -> str:
        parts = [f"{quoted(column.name)} {column.declared} {column.suffix}" for column in self.columns]
        body = ", ".join([*parts, self.constraint] if self.constraint else parts)
        return f"CREATE TABLE {quoted(self.name)} ({body})" + (" STRICT" if self.strict else "")


NAMES = [
    *("two words", 'a"quote', "it's", "back`tick", "brack]et", "[both]", "50%", "#1", "who?", "Имя Клиента", "order"),
    *(
        "rowid",
        "_rowid_",
        "oid",
        "ROWID",
        "1st",
        "😀",
        "a.b",
        "semi;colon",
        "--comment",
        "?1",
        ":name",
        "@at",
        "$dollar",
    ),
    *("select", "shard", "rid", "key", "tag", "rows", "_etl_shard", "first_rowid", "column_0", "literal", "{curly}"),
    *("%s", "\\", "a\nb", "\ufeff"),
]
NAME_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
names = (st.sampled_from(NAMES) | st.text(NAME_CHARACTERS, min_size=1, max_size=6)).filter(
    lambda name: not name.lower().startswith("sqlite_")
)
table_names = names | st.sampled_from(["a/b", "../up", "/", ".", "n" * 150, "%2F"])
column_names = names | st.sampled_from(["long " * 60, "Long " * 60 + "too"])
TYPES = [
    *("INTEGER", "INT", "TEXT", "VARCHAR(20)", "STRING", "REAL", "DOUBLE", "NUMERIC", "DECIMAL(10,2)", "BOOLEAN"),
    *("DATE", "DATETIME", "BLOB", "", "ANY"),
]
STRICT_TYPES = ["INTEGER", "INT", "TEXT", "REAL", "BLOB", "ANY"]
GENERATED = [("TEXT", "typeof({})"), ("INT", "{} IS NULL"), ("ANY", "{}"), ("ANY", "coalesce({}, 7)")]
PRIMARY_KEYS = [
    *("none", "composite", "TEXT PRIMARY KEY"),
    *("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY DESC", "INTEGER PRIMARY KEY AUTOINCREMENT"),
]


def _folded(name: str) -> str:
    return name.translate(str.maketrans(string.ascii_uppercase, string.ascii_lowercase))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    strict = draw(st.booleans())
    types = st.sampled_from(STRICT_TYPES if strict else TYPES)
    chosen = draw(st.lists(column_names, min_size=1, max_size=7, unique_by=_folded))
    plain = draw(st.integers((len(chosen) + 1) // 2, len(chosen)))
    columns = [Column(name, draw(types)) for name in chosen[:plain]]
    primary = draw(st.sampled_from(PRIMARY_KEYS))
    constraint = ""
    if primary.endswith(("KEY", "DESC", "AUTOINCREMENT")):
        declared, _, suffix = primary.partition(" ")
        columns[0] = replace(columns[0], declared=declared, suffix=suffix)
    elif primary == "composite" and plain > 1:
        constraint = f"PRIMARY KEY ({', '.join(quoted(column.name) for column in columns[:2])})"
    rowid_column = primary in ("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT")
    for name in chosen[plain:]:
        declared, expression = draw(st.sampled_from(GENERATED))
        of = quoted(draw(st.sampled_from(columns[:plain])).name)
        storage = draw(st.sampled_from(["VIRTUAL", "STORED"]))
        columns.append(
            Column(name, declared if strict or declared != "ANY" else "", f"AS ({expression.format(of)}) {storage}")
        )
    # With all three names shadowed and no INTEGER PRIMARY KEY no SQL reaches the rowid.
    assume(rowid_column or not {"rowid", "_rowid_", "oid"} <= {_folded(column.name) for column in columns})
    row = st.tuples(*[cells for column in columns if not column.generated])
    return Table(
        name=draw(table_names),
        columns=tuple(columns),
        constraint=constraint,
        strict=strict,
        rowid_column=rowid_column,
        key=draw(st.sampled_from(columns)).name,
        encoding=draw(st.sampled_from(["UTF-8", "UTF-8", "UTF-16le", "UTF-16be"])),
        journal=draw(st.sampled_from(["DELETE", "WAL"])),
        rows=tuple(draw(st.lists(st.tuples(rowids, row), max_size=12, unique_by=lambda pair: pair[0]))),
        later=tuple(draw(st.lists(row, max_size=4))),
    )


def build(table: Table, path: Path) -> None:
    """Make the database file; rows that the table itself refuses are left out."""
    with closing(_connected(path)) as database:
        database.execute(f"PRAGMA encoding = '{table.encoding}'")
        database.execute(f"PRAGMA journal_mode = {table.journal}")
        with database:
            database.execute(table.ddl)
            _insert(database, table, table.rows)


def append(table: Table, path: Path) -> None:
    """Add the later rows above the greatest rowid, as many as there is room for."""
    with closing(_connected(path)) as database, database:
        (top,) = database.execute(
            f"SELECT max({rowid_name(database, table.name)}) FROM {quoted(table.name)}"
        ).fetchone()
        first = 1 if top is None else top + 1
        _insert(database, table, [(first + i, row) for i, row in enumerate(table.later) if first + i <= MOST])


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.text_factory = bytes  # text may be no UTF-8
    return database


def _insert(database: sqlite3.Connection, table: Table, rows: Sequence[tuple[int, Row]]) -> None:
    rowid, key = rowid_name(database, table.name), quoted(table.key)
    columns = [quoted(column.name) for column in table.columns if not column.generated]
    for number, row in rows:
        named: dict[str, Cell] = {} if table.rowid_column else {rowid: number}
        named |= zip(columns, (number, *row[1:]) if table.rowid_column else row, strict=True)
        # substr() makes every version of SQLite take the bytes as they are; a bound blob may be taken for UTF-8.
        marks = ", ".join("CAST(substr(?, 1) AS TEXT)" if isinstance(cell, RawText) else "?" for cell in named.values())
        values = [cell.data if isinstance(cell, RawText) else cell for cell in named.values()]
        try:
            database.execute(
                f"INSERT OR IGNORE INTO {quoted(table.name)} ({', '.join(named)}) VALUES ({marks})", values
            )
        except sqlite3.IntegrityError:
            continue  # STRICT refuses a type whatever the conflict clause says
    stored = database.execute(
        f"SELECT {rowid}, {key} FROM {quoted(table.name)} WHERE typeof({key}) = 'real'"
    ).fetchall()
    unsure = [(number,) for number, real in stored if not _spelled_alike(real)]
    database.executemany(f"DELETE FROM {quoted(table.name)} WHERE {rowid} = ?", unsure)


def _spelled_alike(real: float) -> bool:
    """Whether every version of SQLite casts it to the same text (3.52 went from 15 digits to 17)."""
    return math.isinf(real) or (float(f"{real:.15g}") == real and (real == 0 or 1e-4 <= abs(real) < 1e15))
