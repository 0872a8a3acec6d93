"""How a run is seen while it is at work and afterwards: on a terminal, in files, by other commands."""
