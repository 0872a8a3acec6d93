"""What surrounds a command: settings, limits, lock, signals, log, console, files."""
