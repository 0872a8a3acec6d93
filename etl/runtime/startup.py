"""What a command must set before its imports: how Ctrl-C ends it, what its allocator keeps, which threads it has."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_JEMALLOC = "_RJEM_MALLOC_CONF"
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


def end_at_ctrl_c() -> None:
    """Ends the process at Ctrl-C if it is one of these commands; a program that imports `etl` keeps its own handler."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as under nohup
        signal.signal(signal.SIGINT, _end)


def return_freed_memory() -> None:
    """Makes Polars' allocator, jemalloc, give a freed buffer of 8 MiB or more back at once in one of these commands.

    It does so unless it has a background thread, which Polars' build asks for. It reads the variable when Polars is
    imported; of two values for one option the later counts, so yours goes last. Polars adds its own options to the
    variable, and a parent process with Polars hands them down: a variable that is set is no choice of yours.
    """
    if _is_command():
        os.environ[_JEMALLOC] = ",".join(filter(None, ("background_thread:false", os.environ.get(_JEMALLOC))))


def start_no_idle_threads() -> None:
    """Keeps NumPy's linear algebra without threads in one of these commands; no matrix of reals is multiplied here.

    They wait for work in a loop: 0.1 s of CPU time in each command.
    """
    if _is_command():
        os.environ.setdefault(_BLAS_THREADS, "1")


def _is_command() -> bool:
    if sys.argv[:1] == ["-m"]:  # until Python has found the module, whose name comes before the arguments
        return sys.orig_argv[-len(sys.argv)].split(".")[0] == __name__.split(".")[0]
    return bool(sys.argv) and os.path.basename(sys.argv[0]) == "shard-migrate"  # noqa: PTH119 - pathlib is slow to import


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)
