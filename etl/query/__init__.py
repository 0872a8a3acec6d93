"""Reading finished shards: all of them as a Polars LazyFrame, or one of them for an application."""
