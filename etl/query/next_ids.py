"""Ids for new rows, which no other shard gives: an application asks for them after the cut-over."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from etl.core.errors import Refused
from etl.shards import ledger
from etl.sources import schema
from etl.sqlite import sql


def next_ids(database: sqlite3.Connection, count: int = 1) -> range:
    """The next `count` ids that only this shard may give to new rows of its table.

    It begins a transaction unless there is one; insert the rows and commit, so that no other connection gets the same
    ids. An AUTOINCREMENT table needs no ids: SQLite gives those of the shard's range itself.

    Raises Refused unless the database is a sealed shard with a range of ids that has room for so many.
    """
    if count < 1:
        raise Refused(f"count={count}: expected a number of ids from 1 up")
    begins = not database.in_transaction
    if begins:
        database.execute("BEGIN IMMEDIATE")
    try:
        return _next(database, count)
    except BaseException:
        if begins:
            database.rollback()
        raise


def _next(database: sqlite3.Connection, count: int) -> range:
    cursor = database.cursor()
    cursor.row_factory = None
    path = Path(cursor.execute("PRAGMA database_list").fetchone()[2])
    identity = ledger.identity(cursor, path)
    seal = identity.seal
    if seal is None or seal.first_id is None or seal.last_id is None:
        raise Refused(f"{path}: expected a sealed shard with a range of ids, found none; see cutover --id-block")
    rowid = sql.quote(str(schema.rowid_name(cursor, identity.source_table)))
    greatest = (
        f"SELECT max(t.{rowid}) FROM main.{sql.quote(identity.source_table)} AS t WHERE t.{rowid} BETWEEN ? AND ?"
    )
    (last,) = cursor.execute(greatest, (seal.first_id, seal.last_id)).fetchone()
    first = seal.first_id if last is None else last + 1
    if first + count - 1 > seal.last_id:
        raise Refused(f"{path}: expected {count} free ids up to {seal.last_id}, found {seal.last_id - first + 1}")
    return range(first, first + count)
