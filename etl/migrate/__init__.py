"""The command that loads."""
