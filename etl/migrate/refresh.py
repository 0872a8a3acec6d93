"""A refresh: old rows are compared with the source, and those that differ are replaced."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from etl.runtime import log
from etl.runtime.settings import Settings
from etl.verify import verification
from etl.verify.checker import Stopped
from etl.verify.outcome import Outcome
from etl.verify.repair import Permits
from etl.verify.scope import Scope


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a refresh may delete."""

    allow_deletes: int | None = None
    """Up to so many rows that are gone from the source; None: as MAX_DELETE_PERCENT says."""
    delete_foreign: bool = False
    """Also rows that no run wrote."""

    def run(self, settings: Settings, *, run_id: str, stop: threading.Event, force: bool) -> Outcome | None:
        """Compares all rows, replaces those that differ, and compares their windows again; None if it was stopped.

        The caller holds the lock. Raises EtlError, or Refused before anything is replaced.
        """
        permits = Permits(
            force=force,
            delete_foreign=self.delete_foreign,
            delete_percent=settings.MAX_DELETE_PERCENT,
            deletes=self.allow_deletes,
        )
        try:
            outcome = verification.run(settings, Scope(files=False), permits, run_id=run_id, stop=stop)
        except Stopped:
            return None
        result = outcome.as_json()
        log.event("refreshed", **result)
        verification.store(settings, result)
        return outcome
