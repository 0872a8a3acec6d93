"""Metrics: read by Prometheus' own parser, equal to the shards; a failure does not look like a success."""

import json
import re
import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from etl import __version__
from etl.verify import command as verify
from tests.completeness import ledger
from tests.faults import fail, hang, start, struck
from tests.workplace import REPOSITORY, Workplace, await_line, error_line, finished, migrate, shard_files

ROWS = 1_000
MONITORING = REPOSITORY / "etl" / "status" / "monitoring"
NAME = re.compile(r"shard_migrate_\w+")
Metrics = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def with_metrics(place: Workplace, **changes: str | int | Path) -> dict[str, str]:
    return place.environ(METRICS_FILE=place.root / "etl.prom", **changes)


def metrics(place: Workplace) -> Metrics:
    """Name without its prefix and labels without the table, to value."""
    text = (place.root / "etl.prom").read_text(encoding="utf-8")
    found: Metrics = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "table"))
            assert sample.labels["table"] == "clients"
            found[sample.name.removeprefix("shard_migrate_"), labels] = sample.value
    return found


def value(place: Workplace, name: str) -> float:
    return metrics(place)[name, ()]


def shard_rows(place: Workplace) -> Metrics:
    return {key: rows for key, rows in metrics(place).items() if key[0] == "shard_rows"}


def test_the_metrics_of_a_run_equal_the_shards(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    assert migrate(with_metrics(workplace)) == 0
    found = metrics(workplace)
    for number, path in enumerate(shard_files(workplace.environ())):
        assert found["shard_rows", (("shard", str(number)),)] == sum(ledger(path).values())
        assert found["shard_bytes", (("shard", str(number)),)] == path.stat().st_size
    assert found["run_rows", ()] == ROWS
    assert found["run_windows", ()] == ROWS / 100
    assert found["progress_ratio", ()] == 1.0
    assert (found["running", ()], found["last_exit_code", ()], found["lag_rows", ()]) == (0, 0, 0)
    assert found["last_success_timestamp_seconds", ()] >= found["last_attempt_timestamp_seconds", ()] > 1.7e9
    stages = {dict(labels)["stage"] for name, labels in found if name == "run_stage_seconds"}
    assert stages == {"read", "route", "write", "load", "index"}
    ((_, build),) = [key for key in found if key[0] == "build_info"]
    assert dict(build)["version"] == __version__


def test_the_file_is_private_until_its_mode_is_changed_for_the_collector(workplace: Workplace) -> None:
    workplace.populate(10)
    environ, path = with_metrics(workplace), workplace.root / "etl.prom"
    assert migrate(environ) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert migrate(environ) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert sorted(workplace.root.glob("etl.prom*")) == [path]


def test_a_failure_changes_the_last_attempt_and_not_the_last_success(workplace: Workplace) -> None:
    environ = with_metrics(workplace)
    workplace.populate(ROWS)
    assert workplace.command(environ).code == 0
    before = metrics(workplace)
    workplace.populate(ROWS, first=ROWS + 1)
    assert struck(environ, "before a commit", 2, fail).code == 1
    after = metrics(workplace)
    attempt, success = ("last_attempt_timestamp_seconds", ()), ("last_success_timestamp_seconds", ())
    assert after[attempt] > before[success]
    assert after[success] == before[success]
    assert after["last_exit_code", ()] == 1
    assert after["lag_rows", ()] > 0
    assert workplace.command(environ).code == 0
    assert value(workplace, "last_success_timestamp_seconds") > after[attempt]
    assert value(workplace, "lag_rows") == 0


def test_a_refused_run_is_no_success_either(workplace: Workplace) -> None:
    environ = with_metrics(workplace)
    workplace.populate(10)
    assert migrate(environ) == 0
    success = value(workplace, "last_success_timestamp_seconds")
    shards = shard_rows(workplace)
    assert migrate(environ | {"NUM_SHARDS": "4"}) == 2
    assert shard_rows(workplace) == shards
    assert value(workplace, "last_exit_code") == 2
    assert value(workplace, "last_success_timestamp_seconds") == success
    assert value(workplace, "last_attempt_timestamp_seconds") > success


def test_a_running_run_has_no_exit_code(workplace: Workplace) -> None:
    environ = with_metrics(workplace)
    workplace.populate(ROWS)
    with start(environ, "before a commit", 2, hang) as process:
        await_line(process, "hanging")
        found = metrics(workplace)
        process.kill()
        finished(process)
    assert found["running", ()] == 1
    assert ("last_exit_code", ()) not in found
    assert ("lag_rows", ()) not in found
    assert found["last_success_timestamp_seconds", ()] == 0


def test_a_run_with_nothing_new_is_a_success(workplace: Workplace) -> None:
    environ = with_metrics(workplace)
    workplace.populate(10)
    assert migrate(environ) == 0
    before, shards = metrics(workplace), shard_rows(workplace)
    assert migrate(environ) == 0
    after = metrics(workplace)
    assert shard_rows(workplace) == shards
    assert after["last_success_timestamp_seconds", ()] > before["last_success_timestamp_seconds", ()]


def test_a_table_name_with_quotes_is_unchanged_in_the_labels(workplace: Workplace) -> None:
    name = 'a"b\\c\nd'
    workplace.script('CREATE TABLE "a""b\\c\nd" (k TEXT)', 'INSERT INTO "a""b\\c\nd" VALUES (\'x\')')
    assert migrate(with_metrics(workplace, TABLE_NAME=name)) == 0
    text = (workplace.root / "etl.prom").read_text(encoding="utf-8")
    assert {sample.labels["table"] for family in text_string_to_metric_families(text) for sample in family.samples} == {
        name
    }


def test_a_metrics_file_that_cannot_be_written_refuses_the_run(
    workplace: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(10)
    assert migrate(workplace.environ(METRICS_FILE=workplace.root / "missing" / "etl.prom")) == 2
    assert error_line(capfd.readouterr().err).startswith(f"error: METRICS_FILE={workplace.root}/missing/etl.prom: ")
    assert shard_files(workplace.environ()) == []


def documents() -> dict[str, str]:
    paths = [REPOSITORY / "docs" / "monitoring.md", *sorted(MONITORING.iterdir())]
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def test_every_metric_that_the_documents_name_is_in_a_real_file(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = with_metrics(workplace)
    assert migrate(environ) == verify.run(environ) == 0
    workplace.populate(ROWS, first=ROWS + 1)
    assert migrate(environ) == 0
    real = {f"shard_migrate_{name}" for name, _ in metrics(workplace)}
    found = documents()
    assert set(found) == {"monitoring.md", "alerts.yml", "dashboard.json"}
    for name, text in found.items():
        assert set(NAME.findall(text)) <= real, name
    short = {f"shard_migrate{name}" for name in re.findall(r"…(_\w+)", found["monitoring.md"])}
    assert set(NAME.findall(found["monitoring.md"])) | short == real


def test_every_alert_says_what_to_do_and_no_panels_overlap() -> None:
    alerts = documents()["alerts.yml"].split("- alert: ")[1:]
    assert len(alerts) >= 5
    for alert in alerts:
        assert all(f"\n{' ' * 8}{key}:" in alert for key in ("expr", "for", "labels", "annotations"))
        assert all(f"\n{' ' * 10}{key}:" in alert for key in ("severity", "summary", "next_step"))
    panels = json.loads(documents()["dashboard.json"])["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
