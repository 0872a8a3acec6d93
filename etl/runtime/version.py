"""The version, which `etl.__version__` and the report show."""

VERSION = "0.2.0.dev0"
