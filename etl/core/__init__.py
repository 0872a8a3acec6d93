"""Values and arithmetic: no I/O, no drivers."""
