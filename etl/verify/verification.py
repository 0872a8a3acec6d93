"""One verification, and the repair of what it found; the caller holds the lock."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import Any

from etl.core.errors import EtlError
from etl.runtime import files, log
from etl.runtime.settings import Settings
from etl.shards import shard_set, source_identity
from etl.shards.comparison import Comparison
from etl.sources import schema, source_file
from etl.sources.reader import Source
from etl.sqlite.utf16 import utf8_converter
from etl.status import status_file, verifications
from etl.status.progress import Progress
from etl.status.progress_bar import ProgressBar
from etl.verify.checker import Checker
from etl.verify.differences import Differences
from etl.verify.outcome import Outcome
from etl.verify.repair import Permits, Repair
from etl.verify.scope import Scope


def run(settings: Settings, scope: Scope, permits: Permits | None, *, run_id: str, stop: threading.Event) -> Outcome:
    """Compares what is in the scope and, with permits, repairs it and compares it again.

    Raises Stopped, EtlError, or Refused before anything is written.
    """
    start, started_at = time.perf_counter(), log.now()
    table, rowids = schema.inspect(settings.SOURCE_DB, settings.TABLE_NAME, settings.SHARD_KEY)
    shards = shard_set.configured(settings, table)
    warnings = source_identity.check_for_verification(
        settings.SOURCE_DB,
        table,
        shards.shards,
        repair=permits is not None,
        force=permits is not None and permits.force,
    )
    source = Source(settings.SOURCE_DB, table)
    before = source_file.state(settings.SOURCE_DB)

    with utf8_converter(table.encoding) as utf8, ProgressBar(Progress()) as bar:
        comparison = Comparison(settings.SOURCE_DB, table, shards.map, rowids, utf8)
        checker = Checker(source, rowids, comparison, shards, scope=scope, bar=bar, stop=stop)
        first = checker.run()
        seconds = time.perf_counter() - start
        if first.differences.is_equal or permits is None:
            return Outcome(first, first, None, scope, seconds, started_at, before, warnings)
        log.event("found", **first.differences.as_json())
        repaired = Repair(source, comparison, shards, permits, run_id=run_id, stop=stop).run(checker, first)
        again = replace(scope, since=None, percent=None, only=repaired)
        last = Checker(source, rowids, comparison, shards, scope=again, bar=bar, stop=stop).run()
        _keep_damaged_files(first.differences, last.differences)
        return Outcome(first, last, repaired, scope, seconds, started_at, before)


def _keep_damaged_files(first: Differences, last: Differences) -> None:
    """The second comparison reads only the repaired windows, so it does not find damaged files again."""
    last.notes += [note for note in first.notes if note.kind == "file" and note not in last.notes]


def store(settings: Settings, outcome: dict[str, Any]) -> None:
    """Writes the outcome beside the shards: the last one in full, and a line in the history of all."""
    path = status_file.verification_path(settings.SHARD_DIR, settings.TABLE_NAME)
    try:
        verifications.append(settings.SHARD_DIR, settings.TABLE_NAME, outcome)
        files.replace(path, json.dumps(outcome, ensure_ascii=False).encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise EtlError(f"{path}: cannot be written ({error.strerror}); fix the cause and run again") from None
