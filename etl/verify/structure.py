"""The check of everything but rows: each shard's file, schema, indexes and ledger, and the manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from etl.core import ranges
from etl.core.errors import EtlError, Refused
from etl.core.model import RowidRange, folded
from etl.runtime import files
from etl.shards.contents import ShardContents, ShardIndexes
from etl.shards.ddl_check import keeps_sequence
from etl.shards.ledger_arrays import Ledger, Numbers
from etl.shards.reconciliation import ManifestCheck
from etl.shards.schema_drift import SchemaDrift
from etl.shards.shard_set import ConfiguredShardSet
from etl.sqlite.adbc import ShardError
from etl.status.units import counted
from etl.verify import ledgers
from etl.verify.differences import Differences, Result
from etl.verify.ledgers import Ledgers
from etl.verify.scope import Scope
from etl.verify.shard_reader import NEXT_STEP, ShardReader, ShardSchema

_REBUILD = "python -m etl.status --rebuild-manifest writes it again"


class StructureCheck:
    """Adds what is wrong to the differences."""

    def __init__(
        self,
        shard_set: ConfiguredShardSet,
        readers: Sequence[ShardReader],
        drift: SchemaDrift,
        *,
        scope: Scope,
        into: Result,
        is_loaded: bool,
    ) -> None:
        """`is_loaded` says that the last run did not end before its time: then what a load makes last must be there."""
        self._shards = shard_set.shards
        self._indexes = shard_set.indexes
        self._manifest_path = shard_set.manifest.directory
        self._readers = readers
        self._table = drift.table
        self._drift = drift
        self._scope = scope
        self._result = into
        self._differences = into.differences
        self._is_loaded = is_loaded
        self.all_serve = True
        """Whether every shard that was read is in WAL mode."""
        self.unmade: set[int] = set()
        """Slots of shards that a first load, which was interrupted, has not made yet."""
        self._keeps_sequence = keeps_sequence(drift.table)
        self._is_sealed = False

    def read(self, slots: Sequence[int], keep: Callable[[int, Ledger], None]) -> tuple[list[int], Ledgers]:
        """Checks the schemas and reads the ledgers; returns the slots whose files are readable.

        `keep` gets each ledger. Raises Refused where no shard fits the settings.
        """
        all_ledgers, readable = Ledgers(), []
        with ThreadPoolExecutor(2, thread_name_prefix="etl") as pool:
            found = self._found(slots, pool)
            for slot, schema in zip(found, pool.map(self._schema, found), strict=True):
                if isinstance(schema, EtlError):
                    self.damaged(slot, schema)
                else:
                    all_ledgers.add(schema.ledger)
                    keep(slot, schema.ledger)
                    self._check_schema(slot, schema, found[slot].indexes)
                    readable.append(slot)
        return readable, all_ledgers

    def _found(self, slots: Sequence[int], pool: ThreadPoolExecutor) -> dict[int, ShardContents]:
        """By slot, the files that are shards of these settings."""
        found = dict(zip(slots, pool.map(self._find, slots), strict=True))
        shards = {slot: each for slot, each in found.items() if isinstance(each, ShardContents)}
        errors = {slot: each for slot, each in found.items() if isinstance(each, EtlError)}
        self._is_sealed = any(each.seal for each in shards.values())
        if not shards:
            raise Refused(str(next(iter(errors.values()), self._none(slots))))
        missing = [slot for slot, each in found.items() if each is None]
        if any(isinstance(each, ShardContents) and each.serves for each in found.values()):
            errors |= {slot: self._gone(slot) for slot in missing}
        else:
            self.unmade.update(missing)
            self._result.is_unfinished |= bool(missing)
        for slot, error in errors.items():
            self.damaged(slot, error)
        return shards

    def _find(self, slot: int) -> ShardContents | EtlError | None:
        try:
            found = self._shards[slot].find(self._indexes)
        except EtlError as error:
            return error
        if slot in self._drift.altered:
            return EtlError(f"{self._shards[slot].path}: its CREATE TABLE is not the source's; {NEXT_STEP}")
        return found

    def _gone(self, slot: int) -> EtlError:
        rebuild = "run migrate, which rebuilds only this shard"
        way_out = "restore it from a backup" if self._is_sealed else rebuild
        return EtlError(f"{self._shards[slot].path}: expected a shard, found none; {way_out}")

    def _none(self, slots: Sequence[int]) -> EtlError:
        if self._is_loaded and len(slots) < len(self._shards):
            return self._gone(slots[0])
        unfinished = "" if self._is_loaded else "the load is unfinished: "
        return EtlError(
            f"SHARD_DIR={self._manifest_path.parent}: expected shards to verify, found none; {unfinished}run migrate"
        )

    def damaged(self, slot: int, error: EtlError) -> None:
        """Notes that a shard's whole file must be rebuilt.

        Raises the error where a program only holds the file, Refused where the directory is gone.
        """
        if isinstance(error, ShardError) and error.is_locked:
            raise error
        files.check_directory(self._shards[slot].path.parent)
        path = str(self._shards[slot].path)
        self._differences.note("file", path, str(error).removeprefix(f"{path}: "))
        self._differences.damaged.add(slot)

    def _schema(self, slot: int) -> ShardSchema | EtlError:
        try:
            return self._readers[slot].schema()
        except EtlError as error:
            return error

    def _check_schema(self, slot: int, schema: ShardSchema, indexes: ShardIndexes) -> None:
        table, path, differences = self._table, self._shards[slot].path, self._differences
        if table.name not in schema.statements:
            differences.note("file", path, f"its CREATE TABLE is not the source's; {NEXT_STEP}")
        elif text := self._drift.text(slot):
            differences.note("schema", path, text)
            differences.drift = self._drift.next_step
        if schema.header["encoding"] != table.encoding:
            differences.note("file", path, f"its encoding is not the source's, {table.encoding}; {NEXT_STEP}")
        for name, expected in (("user_version", table.user_version), ("application_id", table.application_id)):
            if schema.header[name] != expected:
                differences.note("schema", path, f"{name} is {schema.header[name]}, the source has {expected}")
                differences.headers.add(slot)
        if schema.unsequenced is not None and self._keeps_sequence:
            differences.note("schema", path, f"sqlite_sequence is below the greatest rowid, {schema.unsequenced}")
            differences.sequences.add(slot)
        wrong = list(indexes.missing)
        journal_mode = schema.header["journal_mode"]
        self.all_serve &= journal_mode == "wal"
        if not self._is_loaded:  # a load makes indexes, then WAL, when all rows are there
            missing = [index for index in wrong if index.name not in schema.statements]
            self._result.is_unfinished |= bool(missing) or journal_mode != "wal"
            wrong, journal_mode = [index for index in wrong if index not in missing], "wal"
        for index in wrong:
            state = "has another definition" if index.name in schema.statements else "is missing"
            differences.note("index", path, f"{index.name} {state}")
        if journal_mode != "wal":
            differences.note("schema", path, f"journal_mode is {journal_mode}, a finished shard has wal")
        wanted = {folded(index.name) for index in self._indexes}
        unwanted = [index for index in indexes.outdated if folded(index.name) not in wanted]
        for index in unwanted:
            differences.note("index", path, f"{index.name} is not in the source any more, nor in INDEX_COLUMNS")
        if wrong or unwanted or journal_mode != "wal":
            differences.indexes[slot] = wrong
        known = {folded(table.name), *wanted, *(folded(index.name) for index in unwanted)}
        for kind, name in schema.names:
            is_known = folded(name) in known or folded(name).startswith(("sqlite_", "_etl_"))
            if kind in {"trigger", "view"} or not is_known:
                differences.remark(kind, path, f"{kind} {name}: no run with these settings creates it")

    def check_ledger(
        self,
        slot: int,
        ledger: Ledger,
        all_windows: Sequence[RowidRange],
        compared: Sequence[RowidRange],
        *,
        counted_rows: Numbers,
        into: Differences,
    ) -> None:
        """Compares a ledger with the rows counted in the compared windows, and notes which lines are to be repaired."""
        path, differences = self._shards[slot].path, into
        rows = ledger.rows_of(compared)
        missing = np.flatnonzero(rows < 0)
        wrong = np.flatnonzero((rows >= 0) & (rows != counted_rows))
        for positions, text in ((missing, "lacks {} that other shards have"), (wrong, "has a wrong count in {}")):
            if len(positions):
                differences.note("ledger", path, text.format(_first_of(compared, positions)))
                differences.to_repair(slot, map(int, positions))
                differences.ledgers.setdefault(slot, set()).update(map(int, positions))
        if len(more := np.flatnonzero((rows >= 0) & (rows < counted_rows))):
            differences.foreign[slot] = {int(position) for position in more}
        if others := ledgers.others(ledger, all_windows):
            overlapping = [i for i, window in enumerate(compared) if ranges.intersect((window,), tuple(others))]
            differences.to_repair(slot, overlapping)
            differences.ledgers.setdefault(slot, set()).update(overlapping)

    def check_lines(self, slot: int, ledger: Ledger, windows: Sequence[RowidRange]) -> None:
        """Compares the lines of a ledger with the windows of the others. What it lacks is found with the rows."""
        others = [line for line in ledgers.others(ledger, windows) if self._scope.holds(line)]
        if others:
            text = f"has {counted(len(others), 'window')} that differ from other shards'"
            self._differences.note("ledger", self._shards[slot].path, text)

    def check_manifest(self, check: ManifestCheck, windows: Sequence[RowidRange]) -> None:
        wrong = check.wrong()
        if not self._is_loaded:  # a run that was killed has not recorded its last windows
            missing = set(check.missing())
            self._result.is_unfinished |= bool(missing) or not check.is_sound
            wrong = [position for position in wrong if position not in missing]
        if wrong:
            text = f"lacks or has wrong {_first_of(windows, wrong)}; {_REBUILD}"
            self._differences.note("manifest", self._manifest_path, text)
        elif self._is_loaded and not check.is_sound:
            text = f"has windows twice, windows that some ledger lacks, or a file that cannot be read; {_REBUILD}"
            self._differences.note("manifest", self._manifest_path, text)


def _first_of(windows: Sequence[RowidRange], positions: Sequence[int] | Numbers) -> str:
    """How many windows, and the first of them."""
    first = windows[positions[0]]
    return f"{counted(len(positions), 'window')} (first {first.first_rowid}..{first.last_rowid})"
