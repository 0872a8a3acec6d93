"""Progress, its files, metrics, and what stands where."""
