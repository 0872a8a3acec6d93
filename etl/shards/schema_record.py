"""What runs did to a shard's schema, in its table `_etl_schema`; a shard that needs no record has no such table.

It has the indexes that runs have created, with their CREATE texts: an index that is in no record is an application's,
and stays. And it has the new columns whose values old rows do not have yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from etl.core.model import SCHEMA_TABLE
from etl.shards.ledger import Database
from etl.sqlite.adbc import Connection
from etl.sqlite.sql import literal

_CREATE = (
    f"CREATE TABLE IF NOT EXISTS main.{SCHEMA_TABLE} "
    "(kind TEXT NOT NULL, name TEXT NOT NULL, sql TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID"
)
_SELECT = f"SELECT r.kind, r.name, r.sql FROM main.{SCHEMA_TABLE} AS r"
_INDEX, _COLUMN = "index", "column"


@dataclass(frozen=True, slots=True)
class SchemaRecord:
    """What `_etl_schema` has."""

    indexes: Mapping[str, str] = field(default_factory=dict)
    """Name → CREATE text."""
    columns: frozenset[str] = frozenset()
    """New columns whose values old rows do not have yet."""


def read(database: Database, names: Iterable[str]) -> SchemaRecord:
    """The record of a file with these tables."""
    rows = list(database.execute(_SELECT)) if SCHEMA_TABLE in names else []
    return SchemaRecord(
        {name: text for kind, name, text in rows if kind == _INDEX},
        frozenset(name for kind, name, _ in rows if kind == _COLUMN),
    )


def write_indexes(connection: Connection, indexes: Mapping[str, str]) -> None:
    """In a transaction of the caller."""
    _write(connection, _INDEX, indexes)


def write_columns(connection: Connection, columns: Iterable[str]) -> None:
    """In a transaction of the caller."""
    _write(connection, _COLUMN, dict.fromkeys(columns, ""))


def _write(connection: Connection, kind: str, texts: Mapping[str, str]) -> None:
    connection.execute(_CREATE)
    connection.execute(f"DELETE FROM main.{SCHEMA_TABLE} WHERE kind = {literal(kind)}")
    for name, text in sorted(texts.items()):
        values = ", ".join(map(literal, (kind, name, text)))
        connection.execute(f"INSERT INTO main.{SCHEMA_TABLE} VALUES ({values})")
