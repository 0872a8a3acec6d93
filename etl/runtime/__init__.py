"""What surrounds a command: settings, limits, lock, signals, log, console, files, and the session that joins them."""
