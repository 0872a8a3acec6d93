"""What a run would do, found out beforehand without touching anything."""
