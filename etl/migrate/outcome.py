"""What a run did, for its last lines and its exit code."""

from __future__ import annotations

from dataclasses import dataclass

from etl.runtime.signals import Interrupt
from etl.status.units import counted


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

    @property
    def name(self) -> str:
        """Of a run that nothing has stopped, as the status file has it."""
        return "nothing new" if self.nothing_new else "done"

    def text(self, interrupt: Interrupt) -> str:
        """The last line of the run, which may have been interrupted."""
        rate = self.rows / max(self.seconds, 1e-9)
        done = f"{counted(self.rows, 'row')} in {self.seconds:.1f} s ({rate:,.0f} rows/s)"
        if not self.is_complete:
            left = "" if interrupt.exit_code else "the load is not complete; "
            text = f"stopped by {interrupt.name}: {done}; {left}run again to resume"
        elif not self.nothing_new:
            text = f"done: {done}"
        elif self.last_rowid is None:
            text = "nothing new: the source has no rows"
        else:
            text = f"nothing new: the source has no rowid above {self.last_rowid:,}"
        return f"{text}; {counted(self.updated, 'row')} updated" if self.updated else text

    @property
    def notes(self) -> list[str]:
        """What is said even without a terminal."""
        later = "was loaded later than the others; run python -m etl.verify to check that they fit"
        return [f"shard {shard} {later}" for shard in self.unproved]
