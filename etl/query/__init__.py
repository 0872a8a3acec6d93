"""The shards, for those who read them."""
