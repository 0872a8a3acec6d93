"""What a verification reads of one shard besides its rows: schema, header, ledger, and the check of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from etl.core.errors import EtlError
from etl.core.model import Table
from etl.runtime import limits
from etl.shards import ledger_arrays
from etl.shards.ledger_arrays import Ledger
from etl.sqlite import sql
from etl.sqlite.adbc import Connection

NEXT_STEP = "move the file away and run migrate, which rebuilds only this shard"
_SEQUENCE = "sqlite_sequence"
_TICK_S = 0.2
_CHECKERS = 2
"""Files checked at the same time. integrity_check needs a large cache, and they share the budget for it."""


@dataclass(frozen=True, slots=True)
class ShardSchema:
    """A shard's schema, header and ledger."""

    statements: dict[str, str]
    """Table or index → its CREATE statement."""
    names: tuple[tuple[str, str], ...]
    """Type and name of each table, index, trigger and view."""
    header: dict[str, object]
    ledger: Ledger
    unsequenced: int | None
    """The greatest rowid, where it is above 0 and sqlite_sequence has none or a lower one for the table."""


class ShardReader:
    """One shard's file."""

    def __init__(self, path: Path, table: Table) -> None:
        self.path = path
        self._table = table

    def schema(self) -> ShardSchema:
        with Connection(self.path, cache_kib=limits.cache_kib(1)) as connection:
            objects = connection.execute(sql.SELECT_SCHEMA)
            statements = {name: text for kind, name, text in objects if text and kind in {"table", "index"}}
            names = ("journal_mode", "encoding", "user_version", "application_id")
            header = {name: connection.pragma(name) for name in names}
            counted = connection.execute(sql.unsequenced(self._table)) if _SEQUENCE in statements else []
            return ShardSchema(
                statements,
                tuple((kind, name) for kind, name, _ in objects),
                header,
                ledger_arrays.read(connection),
                counted[0][0] if counted else None,
            )

    def fault(self, *, quick: bool, writing: Callable[[], AbstractContextManager[None]]) -> EtlError | None:
        """What integrity_check, or quick_check, finds wrong with the file; `writing` is entered before it is locked."""
        try:
            with Connection(self.path, cache_kib=limits.CACHE_BYTES // _CHECKERS >> 10) as connection:
                check = f"PRAGMA {'quick' if quick else 'integrity'}_check"
                rows = connection.execute(check)
                if any(line.startswith("NULL value in ") for (line,) in rows):
                    # The source's rows may break NOT NULL too, and are compared cell by cell. SQLite stops after 100
                    # faults, so it must not count these.
                    with writing():
                        connection.execute("BEGIN")
                        connection.relax_not_null(self._table)
                        rows = connection.execute(check)
                        connection.execute("ROLLBACK")
        except EtlError as error:
            return error
        damage = [line for (line,) in rows if line != "ok"]
        return EtlError(f"{self.path}: {' '.join(damage[0].split())}; {NEXT_STEP}") if damage else None


def faults(
    readers: Mapping[int, ShardReader],
    *,
    quick: bool,
    check_stop: Callable[[], None],
    writing: Callable[[], AbstractContextManager[None]],
) -> dict[int, EtlError]:
    """What `ShardReader.fault` finds, by slot. `check_stop` is called meanwhile; checks not begun are then dropped."""
    found = {}
    with ThreadPoolExecutor(_CHECKERS, thread_name_prefix="etl") as pool:
        try:
            checks = {slot: pool.submit(reader.fault, quick=quick, writing=writing) for slot, reader in readers.items()}
            for slot, check in checks.items():
                while wait([check], timeout=_TICK_S).not_done:
                    check_stop()
                check_stop()
                if error := check.result():
                    found[slot] = error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return found
