"""What is promised of each shard beside its rows: its file, schema, indexes and ledger; and of the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from etl.core import ranges
from etl.core.errors import EtlError, Refused
from etl.core.model import RowidRange, Table, folded
from etl.shards.shard_set import Fleet
from etl.verify.blocks import Places
from etl.verify.differences import Findings
from etl.verify.ledgers import Ledger, Ledgers, Register
from etl.verify.scope import Scope
from etl.verify.shard_reader import WAY_OUT, Look, Witness, keeps_sequence

_REBUILD = "python -m etl.status --rebuild-manifest writes it anew"


class Inspection:
    """Enters into the findings what is not as promised."""

    def __init__(
        self,
        fleet: Fleet,
        witnesses: Sequence[Witness],
        table: Table,
        *,
        scope: Scope,
        findings: Findings,
    ) -> None:
        self._fleet = fleet
        self._witnesses = witnesses
        self._table = table
        self._scope = scope
        self._findings = findings
        self._keeps_sequence = keeps_sequence(table)

    def look(self, slots: Sequence[int]) -> tuple[list[int], Ledgers]:
        """Reads schemas and ledgers; the slots that could be read. Raises Refused where none is of these settings."""
        ledgers, sound = Ledgers(), []
        with ThreadPoolExecutor(2, thread_name_prefix="etl") as pool:
            found = self._found(slots)
            for slot, look in zip(found, pool.map(self._looked, found), strict=True):
                if isinstance(look, EtlError):
                    self.damaged(slot, look)
                else:
                    ledgers.add(look.ledger)
                    self._check_schema(slot, look)
                    sound.append(slot)
        return sound, ledgers

    def _found(self, slots: Sequence[int]) -> list[int]:
        """The slots whose files are shards of these settings."""
        with ThreadPoolExecutor(2, thread_name_prefix="etl") as pool:
            errors = dict(zip(slots, pool.map(self._find, slots), strict=True))
        refusals = {slot: error for slot, error in errors.items() if error}
        if len(refusals) == len(slots):
            raise Refused(str(next(iter(refusals.values()))))
        for slot, error in refusals.items():
            self.damaged(slot, error)
        return [slot for slot in slots if slot not in refusals]

    def _find(self, slot: int) -> EtlError | None:
        try:
            found = self._fleet.shards[slot].find(self._fleet.indexes)
        except EtlError as error:
            return error
        path = self._fleet.shards[slot].path
        return None if found else EtlError(f"{path}: expected a shard, found none; run migrate, which builds it alone")

    def damaged(self, slot: int, error: EtlError) -> None:
        """Notes that a shard's whole file is to be replaced."""
        path = str(self._fleet.shards[slot].path)
        self._findings.note("file", path, str(error).removeprefix(f"{path}: "))
        self._findings.unsound.add(slot)

    def _looked(self, slot: int) -> Look | EtlError:
        try:
            return self._witnesses[slot].look()
        except EtlError as error:
            return error

    def _check_schema(self, slot: int, look: Look) -> None:
        table, path, findings = self._table, self._fleet.shards[slot].path, self._findings
        if look.schema.get(table.name) != table.ddl:
            findings.note("file", path, f"its CREATE TABLE is not the source's; {WAY_OUT}")
        if look.header["encoding"] != table.encoding:
            findings.note("file", path, f"its encoding is not the source's, {table.encoding}; {WAY_OUT}")
        for name, expected in (("user_version", table.user_version), ("application_id", table.application_id)):
            if look.header[name] != expected:
                findings.note("schema", path, f"{name} is {look.header[name]}, the source's {expected}")
                findings.headers.add(slot)
        if look.unsequenced is not None and self._keeps_sequence:
            findings.note("schema", path, f"sqlite_sequence is below the greatest rowid, {look.unsequenced}")
            findings.sequences.add(slot)
        wrong = [index for index in self._fleet.indexes if look.schema.get(index.name) != index.sql]
        for index in wrong:
            state = "is another than promised" if index.name in look.schema else "is missing"
            findings.note("index", path, f"{index.name} {state}")
        if look.header["journal_mode"] != "wal":
            findings.note("schema", path, f"journal_mode is {look.header['journal_mode']}, a finished shard's is wal")
        if wrong or look.header["journal_mode"] != "wal":
            findings.indexes[slot] = wrong
        made = {table.name, *(index.name for index in self._fleet.indexes)}
        for kind, name in look.names:
            is_made = name in made or folded(name).startswith(("sqlite_", "_etl_"))
            if kind in {"trigger", "view"} or not is_made:
                findings.remark(kind, path, f"{kind} {name}: no run with these settings makes it")

    def check_ledger(
        self,
        slot: int,
        ledger: Ledger,
        everyones: Sequence[RowidRange],
        windows: Sequence[RowidRange],
        counted: Places,
    ) -> None:
        """Holds a ledger against the windows of the others, and against the rows counted in those in the scope."""
        path = self._fleet.shards[slot].path
        said = ledger.rows_of(windows)
        lacking = np.flatnonzero(said < 0)
        wrong = np.flatnonzero((said >= 0) & (said != counted))
        strange = [window for window in ledger.strange_to(everyones) if self._scope.holds(window)]
        for positions, what in ((lacking, "lacks {} windows that others have"), (wrong, "wrong counts in {} windows")):
            if len(positions):
                first = windows[positions[0]]
                self._findings.note(
                    "ledger", path, f"{what.format(len(positions))}, first {first.first_rowid}..{first.last_rowid}"
                )
                self._findings.mend(slot, map(int, positions))
        if strange:
            self._findings.note("ledger", path, f"has {len(strange)} windows that others have otherwise")
            self._findings.mend(
                slot, [i for i, window in enumerate(windows) if ranges.intersect((window,), tuple(strange))]
            )

    def check_manifest(self, register: Register, windows: Sequence[RowidRange]) -> None:
        """Holds the manifest against all ledgers."""
        wrong = register.wrong()
        if wrong:
            first = windows[wrong[0]]
            self._findings.note(
                "manifest",
                self._fleet.manifest.directory,
                f"lacks {len(wrong)} windows or has them wrong, first {first.first_rowid}..{first.last_rowid}; "
                f"{_REBUILD}",
            )
        elif not register.is_sound:
            self._findings.note(
                "manifest",
                self._fleet.manifest.directory,
                f"has windows twice, or not in every ledger, or a file that cannot be read; {_REBUILD}",
            )
