"""Moves one table of a very large SQLite file into shard files by SHA-256 of a key column, exactly and restartably."""

from etl.routing import shard_of

__all__ = ["shard_of"]
__version__ = "0.1.0"
