"""The heartbeat of a run: a thread that writes the status file and the metrics every second, and once at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime

import psutil

from etl.core.errors import EtlError, Refused
from etl.core.routing import shard_path
from etl.runtime import files, log
from etl.runtime.settings import Settings
from etl.status import metrics, status_file
from etl.status.lag import lag_rows
from etl.status.progress import DONE, Progress
from etl.status.status_file import RUNNING, RunStatus, ShardStatus

_BEAT_S = 1.0
_MAX_SHARE = 0.02
"""The heartbeat takes at most this share of the time; with thousands of shards it is slower."""


class Heartbeat:
    """Writes the files from `start` to `end`."""

    def __init__(self, settings: Settings, progress: Progress, *, run_id: str, started: datetime) -> None:
        self._settings = settings
        self._progress = progress
        self._path = status_file.path_of(settings.SHARD_DIR, settings.TABLE_NAME)
        self._run_id = run_id
        self._started_at = started.isoformat()
        before = status_file.read(self._path)
        self._last_success_at = before.last_success_at if before else None
        self._shards_before = before.shards if before else ()
        self._process = psutil.Process()
        self._host, self._pid, self._process_started_s = status_file.this_process()
        self._warnings: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="etl-heartbeat", daemon=True)
        self._is_failure_logged = False

    def start(self) -> None:
        """Writes both files for the first time. Raises Refused if METRICS_FILE cannot be written."""
        status = self._status()
        self._write_status(status)
        try:
            if self._settings.METRICS_FILE is not None:
                files.remove_leftovers(self._settings.METRICS_FILE.parent)
            self._write_metrics(status)
        except OSError as error:
            self._is_failure_logged = True
            raise Refused(
                f"METRICS_FILE={self._settings.METRICS_FILE}: cannot be written ({error.strerror}); choose a file in a "
                "writable directory, or unset it"
            ) from None
        self._thread.start()

    def warn(self, warning: str) -> None:
        """Adds a warning to the status file."""
        self._warnings.append(warning)

    def end(self, outcome: str, exit_code: int, *, error: str | None = None) -> RunStatus:
        """Writes both files for the last time; returns the status that they have."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        if exit_code == 0 and outcome != "stopped":
            self._progress.phase = DONE
            self._last_success_at = log.now().isoformat()
        status = replace(
            self._status(),
            outcome=outcome,
            exit_code=exit_code,
            error=error,
            ended_at=log.now().isoformat(),
            eta_s=None,
            lag_rows=self._lag_rows(),
        )
        self._publish(status)
        return status

    def _lag_rows(self) -> int | None:
        if self._progress.is_last_rowid_known:
            with suppress(EtlError):  # the run's own outcome is what counts
                return lag_rows(self._settings, self._progress.last_rowid)
        return None

    def _beat(self) -> None:
        wait_s = _BEAT_S
        while not self._over.wait(wait_s):
            start = time.perf_counter()
            self._publish(self._status())
            wait_s = max(_BEAT_S, (time.perf_counter() - start) / _MAX_SHARE)

    def _publish(self, status: RunStatus) -> None:
        self._write_status(status)
        try:
            self._write_metrics(status)
        except OSError as error:
            self._log_failure("METRICS_FILE", error)

    def _write_status(self, status: RunStatus) -> None:
        try:
            status_file.write(self._path, status)
        except OSError as error:
            self._log_failure(str(self._path), error)

    def _log_failure(self, place: str, error: OSError) -> None:
        """Logs the first failure: it is no reason to end a run."""
        if not self._is_failure_logged:
            self._is_failure_logged = True
            with suppress(EtlError):  # the log may be on the same full disk
                log.event("state", "WARNING", not_written=place, reason=error.strerror)

    def _write_metrics(self, status: RunStatus) -> None:
        if self._settings.METRICS_FILE is not None:
            metrics.write(self._settings.METRICS_FILE, status)

    def _status(self) -> RunStatus:
        rss_bytes = 0
        with suppress(psutil.Error, OSError):
            rss_bytes = self._process.memory_info().rss
        return RunStatus(
            **asdict(self._progress.figures(time.monotonic())),
            table=self._settings.TABLE_NAME,
            run_id=self._run_id,
            host=self._host,
            pid=self._pid,
            process_started_s=self._process_started_s,
            outcome=RUNNING,
            exit_code=None,
            error=None,
            started_at=self._started_at,
            updated_at=log.now().isoformat(),
            ended_at=None,
            last_success_at=self._last_success_at,
            rss_bytes=rss_bytes,
            shards=self._shards(),
            warnings=tuple(self._warnings),
        )

    def _shards(self) -> Sequence[ShardStatus]:
        progress = self._progress
        if not progress.shard_rows:
            return self._shards_before  # until this run has read the ledgers
        shards = []
        for shard, rows in dict(progress.shard_rows).items():  # a copy: the load goes on
            size = 0
            with suppress(OSError):
                size = shard_path(self._settings.SHARD_DIR, self._settings.TABLE_NAME, shard).stat().st_size
            shards.append(ShardStatus(shard, rows, size, round(progress.shard_write_s.get(shard, 0.0), 3)))
        return shards
