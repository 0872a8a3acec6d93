"""Whether the source is the one of before: a run's own check, for a verification, where shards may be damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from etl.core.errors import EtlError, Refused
from etl.core.model import Table
from etl.runtime import log
from etl.shards import source_identity
from etl.shards.checkpoint import R, T
from etl.shards.shard_set import Fleet


def check(path: Path, table: Table, fleet: Fleet, *, repair: bool, force: bool) -> tuple[str, ...]:
    """What to warn of where a run would refuse this source. Every shard that can be read is asked.

    Raises Refused where the shards are to be repaired from that source, unless forced.
    """
    complaint, _ = source_identity.look(
        path, table, fleet.shards, _each(lambda shard: shard.find(()), fleet.shards), _each
    )
    if complaint is None:
        return ()
    if not repair:
        return (f"{complaint}; migrate and --repair refuse it without --force",)
    if not force:
        raise Refused(
            f"{complaint}; check that it is the right source; if it is, --repair --force makes the shards like it"
        )
    log.event("forced", "WARNING", although=complaint)
    return ()


def _each(work: Callable[[T], R], items: Iterable[T], /) -> list[R]:
    """The work done on each shard. One that cannot be read gives None: the comparison names it."""

    def attempt(item: T) -> R | None:
        try:
            return work(item)
        except EtlError:
            return None

    with ThreadPoolExecutor(2, thread_name_prefix="etl") as pool:
        return cast("list[R]", list(pool.map(attempt, items)))
