"""Measures a process from start to end: seconds, CPU, peak memory, threads; and the medians of several runs."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Self

SAMPLE_S = 0.2


@dataclass(frozen=True)
class Command:
    """A program to measure, and how to start it."""

    argv: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    """Set over this process's own environment."""
    max_open_files: int | None = None
    """`ulimit -n` for it; None leaves it as it is."""


@dataclass(frozen=True)
class Measured:
    """What one run took."""

    wall_s: float
    cpu_s: float
    """User and system time together."""
    peak_mb: float
    """Peak resident memory, in units of 1,000,000 bytes."""
    threads: int
    """The maximum of samples every 0.2 s; 0 if there is no /proc, or if the run was shorter."""


class Failed(Exception):
    """A measured program ended with another exit code than 0."""


def measure(command: Command, work_dir: Path) -> Measured:
    """Runs the command in `work_dir`, its output in files there; raises Failed with the end of its stderr."""
    argv = list(command.argv)
    if command.max_open_files is not None:
        argv = ["sh", "-c", f'ulimit -n {command.max_open_files}; exec "$@"', "sh", *argv]
    errors = work_dir / "stderr.txt"
    with (work_dir / "stdout.txt").open("wb") as out, errors.open("wb") as err:
        start = time.perf_counter()
        process = subprocess.Popen(argv, cwd=work_dir, env={**os.environ, **command.environ}, stdout=out, stderr=err)
        with _Threads(process.pid) as threads:
            try:
                # Not process.wait(): wait4 also returns what this one process used. Its peak memory is at least that
                # of the process that started it, so this one stays small and imports no large library.
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
        wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = errors.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise Failed(f"{' '.join(argv)}: expected exit code 0, found {process.returncode}; {end}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6, threads.most)


class _Threads:
    """Samples how many threads a process has, while the block runs."""

    def __init__(self, pid: int) -> None:
        self.most = 0
        self._status = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            try:
                fields = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
            except (OSError, ValueError):
                continue
            self.most = max(self.most, int(fields.get("Threads", 0)))

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._sampler.join()


@dataclass
class Result:
    """One case's runs. Figures are medians; memory and threads are maxima."""

    name: str
    rows: int
    """Rows that each run loaded."""
    shards: int
    runs: list[Measured] = field(default_factory=list)
    rows_checked: int = 0
    """Rows counted in the shards, over all runs."""
    cells_checked: int = 0

    @property
    def wall_s(self) -> float:
        return self._median(lambda run: run.wall_s)

    @property
    def cpu_s(self) -> float:
        return self._median(lambda run: run.cpu_s)

    @property
    def peak_mb(self) -> float:
        return max(run.peak_mb for run in self.runs)

    @property
    def threads(self) -> int:
        return max(run.threads for run in self.runs)

    @property
    def s_per_million(self) -> float | None:
        """None if no rows were loaded."""
        return self.wall_s / self.rows * 1e6 if self.rows else None

    def _median(self, figure: Callable[[Measured], float]) -> float:
        return median(figure(run) for run in self.runs)
