"""The command that compares and repairs."""
