"""The run's pulse: a thread that writes the state file and the metrics every second, and once more at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import psutil

from etl import __version__
from etl.core.errors import EtlError, Refused
from etl.runtime import files, log
from etl.runtime.settings import Settings
from etl.sources import schema
from etl.status import metrics
from etl.status import status_file as state_file
from etl.status.progress import DONE, Progress
from etl.status.status_file import RUNNING, ShardState, State

_BEAT_S = 1.0
_MOST_WORK = 0.02
"""The pulse takes at most this share of the time; with thousands of shards it beats more slowly."""


class Heartbeat:
    """From `start` on the files follow the tally; `end` says how the run came out."""

    def __init__(self, settings: Settings, tally: Progress, *, run_id: str, started: datetime) -> None:
        self._settings = settings
        self._tally = tally
        self._path = state_file.path_of(settings.SHARD_DIR, settings.TABLE_NAME)
        self._run_id = run_id
        self._started_at = started.isoformat()
        before = state_file.read(self._path)
        self._last_success_at = before.last_success_at if before else None
        self._shards_before = before.shards if before else ()
        self._process = psutil.Process()
        self._host, self._pid, self._process_started_s = state_file.this_process()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="etl-pulse", daemon=True)
        self._complained = False

    def start(self) -> None:
        """Writes both files for the first time. Raises Refused where METRICS_FILE cannot be written."""
        state = self._state()
        self._write_or_complain(state)
        try:
            if self._settings.METRICS_FILE is not None:
                files.remove_leftovers(self._settings.METRICS_FILE.parent)
            self._write_metrics(state)
        except OSError as error:
            self._complained = True
            raise Refused(
                f"METRICS_FILE={self._settings.METRICS_FILE}: cannot be written ({error.strerror}); choose a file in a "
                "writable directory, or unset it"
            ) from None
        self._thread.start()

    def end(self, outcome: str, exit_code: int, *, error: str | None = None) -> None:
        """Says how the run came out: the last thing in both files."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        if exit_code == 0:
            self._tally.phase = DONE
            self._last_success_at = log.now().isoformat()
        state = replace(
            self._state(),
            outcome=outcome,
            exit_code=exit_code,
            error=error,
            ended_at=log.now().isoformat(),
            eta_s=None,
            lag_rows=self._lag_rows(),
        )
        self._publish(state)

    def _lag_rows(self) -> int | None:
        tally = self._tally
        if tally.table is None:
            return None
        with suppress(EtlError):  # the run's own outcome is what counts
            return schema.rows_above(self._settings.SOURCE_DB, tally.table, tally.last_rowid)
        return None

    def _beat(self) -> None:
        wait_s = _BEAT_S
        while not self._over.wait(wait_s):
            start = time.perf_counter()
            self._publish(self._state())
            wait_s = max(_BEAT_S, (time.perf_counter() - start) / _MOST_WORK)

    def _publish(self, state: State) -> None:
        self._write_or_complain(state)
        try:
            self._write_metrics(state)
        except OSError as error:
            self._complain("METRICS_FILE", error)

    def _write_or_complain(self, state: State) -> None:
        try:
            state_file.write(self._path, state)
        except OSError as error:
            self._complain(str(self._path), error)

    def _complain(self, place: str, error: OSError) -> None:
        """No reason to end a run; and once is enough to say it."""
        if not self._complained:
            self._complained = True
            with suppress(EtlError):  # the log may be on the same full disk
                log.event("state", "WARNING", not_written=place, reason=error.strerror)

    def _write_metrics(self, state: State) -> None:
        if self._settings.METRICS_FILE is not None:
            metrics.write(self._settings.METRICS_FILE, state, __version__)

    def _state(self) -> State:
        tally, now_s = self._tally, time.monotonic()
        rss_bytes = 0
        with suppress(psutil.Error, OSError):
            rss_bytes = self._process.memory_info().rss
        return State(
            table=self._settings.TABLE_NAME,
            run_id=self._run_id,
            host=self._host,
            pid=self._pid,
            process_started_s=self._process_started_s,
            outcome=RUNNING,
            phase=tally.phase,
            exit_code=None,
            error=None,
            started_at=self._started_at,
            updated_at=log.now().isoformat(),
            ended_at=None,
            last_success_at=self._last_success_at,
            fraction=round(tally.fraction, 4),
            rows=tally.rows_written,
            windows=tally.windows,
            bytes=tally.bytes,
            rows_per_s=round(tally.rows_per_s(now_s), 1) if tally.rows_written else 0.0,
            eta_s=_rounded(tally.eta_s(now_s)),
            rowids_todo=tally.rowids_todo,
            rowids_done=round(tally.rowids_written),
            last_rowid=tally.last_rowid,
            windows_in_flight=tally.in_flight,
            slowest_shard=tally.slowest_shard,
            rss_bytes=rss_bytes,
            seconds={stage: round(seconds, 3) for stage, seconds in dict(tally.seconds).items()},
            shards=self._shards(),
            warnings=tuple(tally.warnings),
        )

    def _shards(self) -> Sequence[ShardState]:
        tally = self._tally
        if not tally.shard_rows:
            return self._shards_before  # until this run has taken stock
        shards = []
        for shard, rows in dict(tally.shard_rows).items():  # a copy: the load goes on
            size = 0
            with suppress(OSError, KeyError):
                size = tally.paths[shard].stat().st_size
            shards.append(ShardState(shard, rows, size, round(tally.shard_write_s.get(shard, 0.0), 3)))
        return shards


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
