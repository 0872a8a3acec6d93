"""Shards read by others: as one Polars LazyFrame, or one at a time."""
