"""The report on a set of shards: what is found out, and how it is drawn."""
