"""Progress and how it is shown: bar, log, status file, metrics; and the command that shows the state of a table."""
