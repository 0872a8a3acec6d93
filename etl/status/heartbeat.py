"""The heartbeat of a run: a thread that writes the status file and the metrics every second, and once at the end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import psutil

from etl.core.errors import EtlError, Refused
from etl.core.routing import shard_path
from etl.runtime import files, log
from etl.runtime.settings import Settings
from etl.status import metrics, status_file, verifications
from etl.status.lag import lag_rows
from etl.status.progress import DONE, Progress
from etl.status.status_file import RunStatus, ShardStatus

_BEAT_S = 1.0
_MAX_SHARE = 0.02
"""The heartbeat takes at most this share of the time; with thousands of shards it is slower."""


class Heartbeat:
    """Writes the files from `start` to `end`."""

    def __init__(self, settings: Settings, progress: Progress, *, run_id: str, started: datetime) -> None:
        self._settings = settings
        self._progress = progress
        self._path = status_file.path_of(settings.SHARD_DIR, settings.TABLE_NAME)
        self._process = psutil.Process()
        before = status_file.read(self._path)
        self._status = RunStatus(
            **asdict(progress.figures(time.monotonic())),
            table=settings.TABLE_NAME,
            run_id=run_id,
            host=socket.gethostname(),
            pid=self._process.pid,
            process_started_s=self._process.create_time(),
            started_at=started.isoformat(),
            updated_at=started.isoformat(),
            last_success_at=before.last_success_at if before else None,
            sealed_at=before.sealed_at if before else None,
            shards=before.shards if before else (),
            **verifications.figures(settings.SHARD_DIR, settings.TABLE_NAME),
        )
        self._warnings: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="etl-heartbeat", daemon=True)
        self._is_failure_logged = False

    def start(self) -> None:
        """Writes both files for the first time. Raises Refused if METRICS_FILE cannot be written."""
        self._update()
        self._write_status()
        try:
            if self._settings.METRICS_FILE is not None:
                files.remove_leftovers(self._settings.METRICS_FILE.parent)
            self._write_metrics()
        except OSError as error:
            self._is_failure_logged = True
            raise Refused(
                f"METRICS_FILE={self._settings.METRICS_FILE}: cannot be written ({error.strerror}); choose a file in a "
                "writable directory, or unset it"
            ) from None
        self._thread.start()

    def warn(self, warning: str) -> None:
        self._warnings.append(warning)

    def end(self, outcome: str, exit_code: int, *, error: str | None = None) -> RunStatus:
        """Writes both files for the last time; returns the status that they have."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        ended_at = log.now().isoformat()
        ending: dict[str, Any] = {"outcome": outcome, "exit_code": exit_code, "error": error, "ended_at": ended_at}
        if exit_code == 0 and outcome != "stopped":
            self._progress.phase = DONE
            ending["last_success_at"] = ended_at
        # A refresh is a verification, so they are read again.
        found = verifications.figures(self._settings.SHARD_DIR, self._settings.TABLE_NAME)
        self._update(**ending, **found, eta_s=None, lag_rows=self._lag_rows())
        self._write()
        return self._status

    def _lag_rows(self) -> int | None:
        if self._progress.is_last_rowid_known:
            with suppress(EtlError):  # the run's own outcome is what counts
                return lag_rows(self._settings, self._progress.last_rowid)
        return None

    def _beat(self) -> None:
        wait_s = _BEAT_S
        while not self._over.wait(wait_s):
            start = time.perf_counter()
            self._update()
            self._write()
            wait_s = max(_BEAT_S, (time.perf_counter() - start) / _MAX_SHARE)

    def _write(self) -> None:
        self._write_status()
        try:
            self._write_metrics()
        except OSError as error:
            self._log_failure("METRICS_FILE", error)

    def _write_status(self) -> None:
        try:
            status_file.write(self._path, self._status)
        except OSError as error:
            self._log_failure(str(self._path), error)

    def _write_metrics(self) -> None:
        if self._settings.METRICS_FILE is not None:
            metrics.write(self._settings.METRICS_FILE, self._status)

    def _log_failure(self, place: str, error: OSError) -> None:
        """Logs the first failure: it is no reason to end a run."""
        if not self._is_failure_logged:
            self._is_failure_logged = True
            with suppress(EtlError):  # the log may be on the same full disk
                log.event("state", "WARNING", not_written=place, reason=error.strerror)

    def _update(self, **ending: Any) -> None:
        figures = asdict(self._progress.figures(time.monotonic()))
        with suppress(psutil.Error, OSError):
            figures["rss_bytes"] = self._process.memory_info().rss
        self._status = replace(
            self._status,
            updated_at=log.now().isoformat(),
            shards=self._shards(),
            warnings=tuple(self._warnings),
            **figures | ending,
        )

    def _shards(self) -> Sequence[ShardStatus]:
        progress = self._progress
        if not progress.shard_rows:
            return self._status.shards  # until this run has read the ledgers
        shards = []
        for shard, rows in dict(progress.shard_rows).items():  # a copy: the load goes on
            size = 0
            with suppress(OSError):
                size = shard_path(self._settings.SHARD_DIR, self._settings.TABLE_NAME, shard).stat().st_size
            shards.append(ShardStatus(shard, rows, size, round(progress.shard_write_s.get(shard, 0.0), 3)))
        return shards
