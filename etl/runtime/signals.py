"""SIGINT, SIGTERM and SIGHUP: the first lets the windows in flight commit, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Listens while its block runs (in the main thread; elsewhere Python cannot listen)."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        """Set by the first signal."""
        self._signal: signal.Signals | None = None
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    @property
    def name(self) -> str:
        """The signal that came, or nothing."""
        return self._signal.name if self._signal else ""

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it; 0 where none came."""
        return 128 + self._signal if self._signal else 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
            self._before = {number: signal.signal(number, self._heed) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heed(self, number: int, _: FrameType | None) -> None:
        if self._signal is not None:
            if number == signal.SIGHUP == self._signal:
                return  # a closing terminal may send it twice
            os._exit(128 + number)  # as kill -9 would: the shards' journals undo what is not committed
        self._signal = signal.Signals(number)
        self.stop.set()
        with suppress(OSError):  # the terminal may be gone
            os.write(
                sys.stderr.fileno(),
                f"{self._signal.name}: finishing the windows in flight; once more aborts\n".encode(),
            )
