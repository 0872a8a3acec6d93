"""Old windows joined: ledgers and manifest stay small when runs follow each other for years.

Each shard joins its lines in one transaction of its own. After a kill some shards have joined lines and others have
not: whoever compares ledgers compares ranges (`Ledger.rows_of`), and the next run joins the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from etl.runtime import log
from etl.shards.checkpoint import Checkpoint, Each
from etl.shards.ledger_arrays import Ledger
from etl.shards.manifest import Manifest
from etl.shards.shard import Shard

MOST_LINES = 8_000
"""A run that finds more lines in a ledger joins them …"""
JOINED_LINES = 4_000
"""… to about this many, of similar size, so that joining is due again only after thousands of runs …"""
NEWEST_LINES = 100
"""… and leaves so many of the highest rowids as they are: the report shows recent runs, and a repair stays small."""


def is_due(found: Checkpoint, manifest_lines: int) -> bool:
    """Whether there are too many lines, or some have been joined and others have not."""
    lines = [each.lines for each in found.found if each]
    if not found.done or found.backlog.partial or found.backlog.lost or len(lines) < len(found.found):
        return False
    return max(lines) > MOST_LINES or len({*lines, manifest_lines}) > 1


def compact(shards: Sequence[Shard], manifest: Manifest, each: Each) -> None:
    """Gives every shard the same lines, few enough, and the manifest likewise. All ledgers have the same coverage."""
    windows = _common(shards)
    if len(windows.first) > MOST_LINES:
        windows = windows.joined(most=JOINED_LINES, newest=NEWEST_LINES)
    fewer = each(lambda shard: shard.join(windows), shards)
    manifest.join(windows)
    log.event("joined", windows=len(windows.first), fewer=max(fewer))


def _common(shards: Sequence[Shard]) -> Ledger:
    """The finest windows that every ledger has, with the rows of all shards."""
    windows = shards[0].ledger()
    for shard in shards[1:]:
        windows = windows.common(shard.ledger())
    return windows
