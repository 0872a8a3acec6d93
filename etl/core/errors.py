"""Errors that end a command: one line for the operator, and an exit code."""


class EtlError(Exception):
    """The work failed: exit code 1. The message says place, expected, found and next step, and never a cell's value."""

    exit_code = 1

    def __str__(self) -> str:
        """The arguments, a line each; characters that cannot be printed are escaped, as in a repr."""
        return "\n".join("".join(map(_printable, str(line))) for line in self.args)


class Refused(EtlError):
    """The run is not possible with these settings, source or shards; no shard was touched: exit code 2."""

    exit_code = 2


class AlreadyRunning(EtlError):
    """Another command is at work in the shard directory: exit code 3."""

    exit_code = 3


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
