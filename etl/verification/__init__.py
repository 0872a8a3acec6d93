"""Proof that shards hold the source's rows, and the repair of those that do not."""
