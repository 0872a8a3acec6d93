"""The source's table: its schema, and its rows as frames."""
