"""Moves one table of a very large SQLite file into shard files by SHA-256 of a key column, exactly and restartably."""

from typing import TYPE_CHECKING

from etl import startup

startup.end_at_ctrl_c()  # before the modules that take long to load

from etl.routing import shard_of  # noqa: E402 - see above

if TYPE_CHECKING:
    from etl.access.scan import scan_shards
    from etl.access.serving import open_shard

__all__ = ["open_shard", "scan_shards", "shard_of"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Loads what is asked for: `shard_of` alone must not cost an application the import of Polars."""
    if name == "scan_shards":
        from etl.access.scan import scan_shards  # noqa: PLC0415 - see above

        return scan_shards
    if name == "open_shard":
        from etl.access.serving import open_shard  # noqa: PLC0415 - see above

        return open_shard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
