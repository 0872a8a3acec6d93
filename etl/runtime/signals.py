"""SIGINT, SIGTERM and SIGHUP: the first stops after the windows in flight, the second ends the process at once.

The end of the time that `--stop-after` gives stops in the same way, but it is no failure.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from types import FrameType
from typing import Self, TypeVar

from etl.runtime.console import print_over_echo

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TICK_S = 0.1


class Interrupt:
    """Handles the signals while its block runs; outside the main thread, where Python cannot, it does nothing."""

    def __init__(self, stop_after_s: float | None = None) -> None:
        self.stop = threading.Event()
        """Set by the first signal, or when the time is up."""
        self._timer = None if stop_after_s is None else threading.Timer(stop_after_s, self.stop.set)
        self._signal: signal.Signals | None = None
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    @property
    def name(self) -> str:
        """What came first: a signal, the end of the time, or nothing."""
        if self._signal:
            return self._signal.name
        return "--stop-after" if self.stop.is_set() else ""

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as in shells; 0 without a signal."""
        return 128 + self._signal if self._signal else 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # as by nohup
            self._before = {number: signal.signal(number, self._handle) for number in handled}
        if self._timer:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def call(self, work: Callable[[], T]) -> T:
        """Does the work in another thread: in the main thread ADBC takes SIGINT itself, and its statement fails."""
        with ThreadPoolExecutor(1, thread_name_prefix="etl") as pool:
            future = pool.submit(work)
            is_said = False
            while wait([future], timeout=_TICK_S).not_done:  # a signal that comes just before a wait does not end it
                if self._signal and not is_said:
                    is_said = True
                    print_over_echo(f"{self.name}: stopping after the windows in flight; press again to stop at once")
            return future.result()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._signal is not None:
            if number == signal.SIGHUP == self._signal:
                return  # a closing terminal may send it twice
            with suppress(OSError):  # the terminal may be gone
                os.write(2, f"\n{signal.Signals(number).name}: stopped at once; run again to resume\n".encode())
            os._exit(128 + number)  # like kill -9: the shards' journals undo what is not committed
        self._signal = signal.Signals(number)
        self.stop.set()
