"""python -m etl.cutover: the shards become the applications', after everything is proved."""
