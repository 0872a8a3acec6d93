"""Moves one table of a very large SQLite file into shard files by SHA-256 of a key column, exactly and restartably."""

import importlib
from typing import TYPE_CHECKING

from etl.runtime import startup

startup.end_at_ctrl_c()  # before the imports that take long
startup.return_freed_memory()
startup.start_no_idle_threads()

from etl.core.routing import shard_of  # noqa: E402 - see above
from etl.runtime.version import VERSION  # noqa: E402 - see above

if TYPE_CHECKING:
    from etl.query.find import find
    from etl.query.next_ids import next_ids
    from etl.query.open_shard import open_shard
    from etl.query.scan import scan_shards

__all__ = ["find", "next_ids", "open_shard", "scan_shards", "shard_of"]
__version__ = VERSION


_MODULES = {"find": "find", "next_ids": "next_ids", "open_shard": "open_shard", "scan_shards": "scan"}


def __getattr__(name: str) -> object:
    """Imports on first use: an application that needs only `shard_of` does not import Polars."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"etl.query.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
