"""The drivers of SQLite and their rules, each in one place."""
