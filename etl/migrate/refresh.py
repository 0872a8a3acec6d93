"""A refresh: old rows are compared with the source, and those that differ are replaced."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from etl.runtime import log
from etl.runtime.settings import Settings
from etl.verify.halt import Halt
from etl.verify.outcome import Outcome, store
from etl.verify.repair import Permits
from etl.verify.scope import Scope
from etl.verify.verification import Verification


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a refresh may delete."""

    allow_deletes: int | None = None
    """Up to so many rows that are gone from the source; None: as MAX_DELETE_PERCENT says."""
    delete_foreign: bool = False
    """Also rows that no run wrote."""
    budget_s: float | None = None
    """Only for so many seconds, the oldest check first."""

    def run(self, settings: Settings, *, run_id: str, stop: threading.Event, force: bool) -> Outcome:
        """Compares all rows, replaces those that differ, and compares their windows again.

        The caller holds the lock. Raises EtlError, or Refused before anything is replaced.
        """
        permits = Permits(
            force=force,
            delete_foreign=self.delete_foreign,
            delete_percent=settings.MAX_DELETE_PERCENT,
            deletes=self.allow_deletes,
        )
        outcome = Verification(
            settings,
            Scope(files=False, budget_s=self.budget_s),
            permits,
            run_id=run_id,
            halt=Halt(stop, self.budget_s),
            max_rate=settings.MAX_RATE,
            is_loaded=True,
        ).run()
        result = outcome.as_json()
        log.event("refreshed", **result)
        store(settings, result)
        return outcome
