"""What a run did, for its last lines and its exit code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did."""

    rows: int = 0
    """Rows that this run has loaded."""
    seconds: float = 0.0
    updated: int = 0
    """Old rows that were updated, and that this run has replaced (CURSOR_COLUMN)."""
    nothing_new: bool = False
    is_complete: bool = True
    """Whether nothing is left to do; a signal may come too late to stop anything."""
    last_rowid: int | None = None
    """The last rowid of the ledgers when the run began; None if they were empty."""
    evolved: tuple[str, ...] = ()
    """New columns that this run has brought to the shards."""
    unproved: tuple[int, ...] = ()
    """Shards that were loaded later than the others, so from a later source, without a full verification since."""
