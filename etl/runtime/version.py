"""The version, which `etl.__version__` and the report show."""

VERSION = "0.1.0"
