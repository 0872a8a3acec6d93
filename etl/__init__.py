"""Moves one table of a very large SQLite file into shard files by SHA-256 of a key column, exactly and restartably."""

from typing import TYPE_CHECKING

from etl.runtime import startup

startup.end_at_ctrl_c()  # before the imports that take long
startup.return_freed_memory()
startup.start_no_idle_threads()

from etl.core.routing import shard_of  # noqa: E402 - see above
from etl.runtime.version import VERSION  # noqa: E402 - see above

if TYPE_CHECKING:
    from etl.query.next_ids import next_ids
    from etl.query.open_shard import open_shard
    from etl.query.scan import scan_shards

__all__ = ["next_ids", "open_shard", "scan_shards", "shard_of"]
__version__ = VERSION


def __getattr__(name: str) -> object:
    """Imports on first use: an application that needs only `shard_of` does not import Polars."""
    if name == "scan_shards":
        from etl.query.scan import scan_shards  # noqa: PLC0415 - see above

        return scan_shards
    if name == "open_shard":
        from etl.query.open_shard import open_shard  # noqa: PLC0415 - see above

        return open_shard
    if name == "next_ids":
        from etl.query.next_ids import next_ids  # noqa: PLC0415 - see above

        return next_ids
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
