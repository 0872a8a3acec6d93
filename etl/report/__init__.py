"""python -m etl.report: one page on the balance of the shards; notebooks call the same functions."""
