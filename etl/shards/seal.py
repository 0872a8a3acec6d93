"""The seal of a shard set: since the cut-over the shards are the applications', and no run writes to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from etl.core.errors import Refused
from etl.core.model import MAX_ROWID, Index, Seal, Table
from etl.shards.contents import ShardContents
from etl.shards.ddl_check import keeps_sequence, unique_beyond_key

DOCUMENT = "docs/moving-an-application.md"
ID_BLOCK = 2**40
"""Ids of a shard, unless others are asked for."""
AMPLE_IDS = 2**32
"""So many are not used up in the life of a shard."""


def of(found: Sequence[ShardContents | None]) -> Mapping[int, Seal]:
    """The seals by slot."""
    return {slot: each.seal for slot, each in enumerate(found) if each and each.seal}


def check(shard_dir: Path, found: Sequence[ShardContents | None]) -> None:
    """Raises Refused where a shard is sealed: a run would replace and delete rows that applications wrote."""
    seals = of(found)
    if first := sealed_at(seals):
        moment = since(first)
        if any(each and not each.seal for each in found):
            moment += f" ({len(seals)} of {len(found)}; cutover seals the others)"
        raise Refused(
            f"SHARD_DIR={shard_dir}: the shards are sealed since {moment}: applications write to them; "
            "remove runs and repairs from cron; if no application has written yet, cutover --undo opens them again"
        )


def sealed_at(seals: Mapping[int, Seal]) -> str | None:
    """When the cut-over was, ISO 8601 in UTC; None before it."""
    return min((seal.sealed_at for seal in seals.values()), default=None)


def since(moment: str) -> str:
    """The same for people."""
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S} UTC"


IdRange: TypeAlias = tuple[int, int] | tuple[None, None]
"""The first and the last rowid that a shard's applications may give; None: no range."""


def planned(slots: int, *, greatest: int, block: int, sealed: Mapping[int, Seal]) -> list[IdRange]:
    """A range of `block` ids for each slot, above the greatest of all; 0: no ranges.

    A cut-over that was killed is completed with the ranges that it began with. Raises Refused where ids would end.
    """
    for slot, seal in sealed.items():
        if seal.first_id is None or seal.last_id is None:
            block = 0
        else:
            block = seal.last_id - seal.first_id + 1
            greatest = seal.first_id - 1 - slot * block
    if not block:
        return [(None, None)] * slots
    if greatest + slots * block > MAX_ROWID:
        raise Refused(
            f"--id-block {block}: expected {slots} ranges of ids up to {MAX_ROWID}, found {greatest} as the greatest "
            "id; choose a smaller number, or 0 for no ranges"
        )
    first = greatest + 1
    return [(first + slot * block, first + (slot + 1) * block - 1) for slot in range(slots)]


def warnings(table: Table, indexes: Sequence[Index], *, id_block: int) -> Iterator[str]:
    """What no shard can promise to applications alone, a sentence each."""
    if table.rowid_column is not None:
        ids = f"after a cut-over: {table.rowid_column}: SQLite"
        if not id_block:
            yield f"{ids} gives a new row an id that another shard may give, too: let the application choose ids"
        elif not keeps_sequence(table):
            yield f"{ids} would give a new row an id of another shard; take ids from etl.next_ids ({DOCUMENT})"
        elif id_block < AMPLE_IDS:
            yield f"{ids} does not stop at the end of a range of {id_block:,} ids, but goes on in the next shard's"
    if unique := unique_beyond_key(table, indexes):
        yield f"after a cut-over: UNIQUE values are unique within each shard only: {', '.join(unique)}"
