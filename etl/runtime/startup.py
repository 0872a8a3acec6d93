"""The start of a command: Ctrl-C ends it at once with exit code 130, without a traceback, while modules are loaded."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def end_at_ctrl_c() -> None:
    """Ends the process at Ctrl-C if it is a command of ours; a program that imports `etl` keeps its own handler."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as under nohup
        signal.signal(signal.SIGINT, _end)


def _is_command() -> bool:
    if sys.argv[:1] == ["-m"]:  # until Python has found the module; its name stands before the arguments
        return sys.orig_argv[-len(sys.argv)].split(".")[0] == __name__.split(".")[0]
    return bool(sys.argv) and os.path.basename(sys.argv[0]) == "shard-migrate"  # noqa: PTH119 - pathlib takes a while


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)
