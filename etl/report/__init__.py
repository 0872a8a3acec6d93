"""The command that writes the page on the shards."""
