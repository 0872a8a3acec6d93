"""What a verification comes to: its findings, and how much was compared."""

from __future__ import annotations

from dataclasses import dataclass, field

from etl.core.model import RowidRange
from etl.verify.blocks import Grid
from etl.verify.differences import Findings


@dataclass(slots=True)
class Result:
    """What a verification came to; it is filled in as it goes on."""

    findings: Findings = field(default_factory=Findings)
    grid: Grid = field(default_factory=lambda: Grid((), rows=0, slots=1))
    windows: tuple[RowidRange, ...] = ()
    """All windows, compared or not."""
    source_rows: int = 0
    shard_rows: int = 0
    shards: int = 0
    newer_rows: int = 0
    """Rows of the source in no window: the next run brings them."""
