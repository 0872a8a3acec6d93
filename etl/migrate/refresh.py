"""A refresh: old rows are compared with the source, and those that differ are replaced."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime

from etl.runtime import log
from etl.runtime.settings import Settings
from etl.shards import shard_set
from etl.sources import source_file
from etl.status import verifications
from etl.verify.halt import Halt
from etl.verify.outcome import Outcome, store
from etl.verify.repair import Permits
from etl.verify.scope import Scope
from etl.verify.verification import Verification


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The outcome where nobody has written to the source, or to a shard, since all rows were equal."""

    since: datetime
    exit_code = 0
    is_stopped = False
    warnings = ()
    replaced_rows = 0

    def lines(self, *, stopped_by: str = "") -> list[str]:  # noqa: ARG002 - as `verify.outcome`'s
        since = f"{self.since:%Y-%m-%d %H:%M:%S} UTC"
        return [f"nothing to refresh: source and shards have not changed since {since}, when all rows were equal"]


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a refresh may delete."""

    allow_deletes: int | None = None
    """Up to so many rows that are gone from the source; None: as MAX_DELETE_PERCENT says."""
    delete_foreign: bool = False
    """Also rows that no run wrote."""
    budget_s: float | None = None
    """Only for so many seconds, the oldest check first."""

    def run(self, settings: Settings, *, run_id: str, stop: threading.Event, force: bool) -> Outcome | Unchanged:
        """Compares all rows, replaces those that differ, and compares their windows again.

        The caller holds the lock. Raises EtlError, or Refused before anything is replaced.
        """
        if since := _unchanged_since(settings):
            log.event("unchanged", since=since.isoformat())
            return Unchanged(since)
        permits = Permits(
            force=force,
            delete_foreign=self.delete_foreign,
            delete_percent=settings.MAX_DELETE_PERCENT,
            deletes=self.allow_deletes,
        )
        before = shard_set.file_states(settings)
        outcome = Verification(
            settings,
            Scope(files=False, budget_s=self.budget_s),
            permits,
            run_id=run_id,
            halt=Halt(stop, self.budget_s),
            is_loaded=True,
        ).run()
        is_written = outcome.source != source_file.state(settings.SOURCE_DB)
        outcome = replace(outcome, is_source_written=is_written)
        result = outcome.as_json()
        result["shard_files"] = before if before == shard_set.file_states(settings) else None
        log.event("refreshed", **result)
        store(settings, result)
        return outcome


def _unchanged_since(settings: Settings) -> datetime | None:
    """When a refresh found all rows equal, if nobody has written to the source or a shard since; None if unknown.

    The source's own counter shows it, but not in WAL mode. New rows have been loaded before.
    """
    proof = verifications.last_full_proof(settings.SHARD_DIR, settings.TABLE_NAME)
    if proof is None or proof.source.change_counter is None or proof.source != source_file.state(settings.SOURCE_DB):
        return None
    return datetime.fromisoformat(proof.finished_at) if proof.shard_files == shard_set.file_states(settings) else None
