"""Alert rules and dashboard, tried with the metrics of real runs by Prometheus' own programs."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from etl.cutover import command as cutover
from etl.runtime.options import Given
from etl.sources.schema import COUNTED_ROWS
from etl.status import command as status
from etl.verify import command as verify
from tests.faults import fail, hang, kill, start, struck
from tests.workplace import PATIENCE_SECONDS, REPOSITORY, Workplace, await_line, finished, migrate

MONITORING = REPOSITORY / "etl" / "status" / "monitoring"
ROWS = 1_000
State = Callable[[Workplace, dict[str, str]], None]


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def loaded(place: Workplace, environ: dict[str, str]) -> None:
    place.populate(ROWS)
    assert migrate(environ) == 0


def good(_: Workplace, environ: dict[str, str]) -> None:
    assert verify.run(environ) == migrate(environ) == 0


def failed(_: Workplace, environ: dict[str, str]) -> None:
    assert migrate(environ | {"NUM_SHARDS": "4"}) == 2


def dead(place: Workplace, environ: dict[str, str]) -> None:
    place.populate(ROWS, first=ROWS + 1)
    assert struck(environ, "before a commit", 2, kill).code == -SIGKILL


def lagging(place: Workplace, environ: dict[str, str]) -> None:
    """So many rows that rowids are counted; all without a key."""
    place.script(
        "INSERT INTO clients (rowid) WITH RECURSIVE n (i) AS (VALUES (2000000) UNION ALL SELECT i + 1 FROM n) "
        f"SELECT i FROM n LIMIT {COUNTED_ROWS}"
    )
    assert struck(environ, "before a read", 1, fail).code == 1


def differing(place: Workplace, environ: dict[str, str]) -> None:
    large = environ | {"BATCH_SIZE": "50000"}
    assert migrate(large) == 0
    place.script("UPDATE clients SET note = 'other' WHERE rowid = 7")
    assert verify.run(large) == 4
    assert migrate(large) == 0


def sealed(_: Workplace, environ: dict[str, str]) -> None:
    large = environ | {"BATCH_SIZE": "50000"}
    assert verify.run(large, repair=True) == verify.run(large) == cutover.run(Given(large, Path("none"))) == 0
    assert migrate(large) == 2, "a run that was forgotten in cron"


def nowhere(_: Workplace, environ: dict[str, str]) -> None:
    Path(environ["METRICS_FILE"]).write_text("")


FIRING: tuple[tuple[State, int, str, set[str]], ...] = (
    (loaded, 0, "2h", {"NotProved"}),
    (good, 0, "3h", set()),
    (good, 0, "4h15m", {"Stale"}),
    (good, 14, "2h", {"Stale", "NotProved"}),
    (failed, 0, "5m", {"Failed"}),
    (failed, 0, "3h", {"Failed", "AttemptWithoutSuccess"}),
    (dead, 0, "4m", set()),
    (dead, 0, "10m", {"Died"}),
    (dead, 0, "4h30m", {"Died"}),
    (lagging, 0, "3h", {"Failed", "AttemptWithoutSuccess", "Lag"}),
    (differing, 0, "5m", {"Differs"}),
    (differing, 0, "3h", {"Differs", "Skew"}),
    (sealed, 20, "5h", {"Skew"}),
    (nowhere, 0, "1h", {"Absent"}),
)
"""The state of one table, which goes through all of them; the days and hours since; the alerts that fire then."""


def series(metrics: str, days: int) -> list[dict[str, str]]:
    """The samples as promtool's series, which do not change. They were written so many days before its time 0."""
    samples = [sample for family in text_string_to_metric_families(metrics) for sample in family.samples]
    written = sum(sample.value for sample in samples if sample.name == "shard_migrate_updated_timestamp_seconds")
    found = []
    for sample in samples:
        labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
        is_age = (
            sample.name.endswith("_timestamp_seconds") and "_sealed_" not in sample.name
        )  # no rule asks for its age
        past = written + days * 24 * 3600 if is_age else 0
        found.append({"series": f"{sample.name}{{{labels}}}", "values": f"{sample.value - past:.3f}x300"})
    return found


@needs("promtool")
def test_each_alert_fires_after_the_runs_that_it_is_for_and_stays_quiet_otherwise(workplace: Workplace) -> None:
    environ = workplace.environ(METRICS_FILE=workplace.root / "etl.prom")
    metrics: dict[State, str] = {}
    for state, *_ in FIRING:
        if state not in metrics:
            state(workplace, environ)
            metrics[state] = (workplace.root / "etl.prom").read_text(encoding="utf-8")
    rules = MONITORING / "alerts.yml"
    cases = [
        {
            "name": f"{state.__name__}, {days} days and {time} ago",
            "interval": "1m",
            "input_series": series(metrics[state], days),
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": time,
                    "exp_samples": [
                        {"labels": f'{{alertname="ShardMigrate{name}"}}', "value": 1} for name in sorted(names)
                    ],
                }
            ],
        }
        for state, days, time, names in FIRING
    ]
    file = workplace.root / "alerts_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": cases}))
    answer = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    alerts = {rule["alert"] for rule in yaml.safe_load(rules.read_text())["groups"][0]["rules"]}
    assert {f"ShardMigrate{name}" for *_, names in FIRING for name in names} == alerts


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def prometheus(textfiles: Path, place: Path) -> Iterator[str]:
    """node_exporter, which collects the directory, and Prometheus, which asks it; the latter's address."""
    exporter, server = (f"127.0.0.1:{free_port()}" for _ in range(2))
    (place / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
                "rule_files": [str(MONITORING / "alerts.yml")],
                "scrape_configs": [{"job_name": "node", "static_configs": [{"targets": [exporter]}]}],
            }
        )
    )
    commands = (
        [
            *("prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile"),
            *(f"--collector.textfile.directory={textfiles}", f"--web.listen-address={exporter}"),
        ],
        [
            *("prometheus", f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/tsdb"),
            f"--web.listen-address={server}",
        ],
    )
    with (place / "prometheus.log").open("w") as log, ExitStack() as stack:
        for command in commands:
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
            stack.callback(process.kill)
        yield server


def ask(server: str, path: str, **arguments: str) -> dict[str, Any]:
    """An answer of Prometheus' API; it may have just been started."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urlopen(f"http://{server}/api/v1/{path}?{urlencode(arguments)}", timeout=10) as answer:
                data: dict[str, Any] = json.load(answer)["data"]
                return data
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def await_data(server: str, expressions: set[str], *, all_of_them: bool) -> set[str]:
    """Asks until Prometheus has data for all expressions, or for one; those without data then."""
    deadline = time.monotonic() + PATIENCE_SECONDS / 4
    while True:
        empty = {each for each in expressions if not ask(server, "query", query=each)["result"]}
        if not empty or (len(empty) < len(expressions) and not all_of_them) or time.monotonic() > deadline:
            return empty
        time.sleep(0.2)


@needs("prometheus", "prometheus-node-exporter")
def test_prometheus_collects_a_run_and_each_panel_of_the_dashboard_has_data(
    workplace: Workplace, tmp_path: Path
) -> None:
    textfiles = tmp_path / "textfiles"
    textfiles.mkdir()
    environ = workplace.environ(METRICS_FILE=textfiles / "clients.prom")
    loaded(workplace, environ)
    good(workplace, environ)
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    expressions = {target["expr"].replace("$table", ".*") for panel in panels for target in panel["targets"]}
    with prometheus(textfiles, tmp_path) as server:
        assert await_data(server, {f"sum(shard_migrate_shard_rows) == {ROWS}"}, all_of_them=True) == set()
        of_a_run = await_data(server, expressions, all_of_them=False)
        workplace.populate(ROWS, first=ROWS + 1)
        with start(environ, "before a commit", 8, hang) as process:
            await_line(process, "hanging")
            of_a_load = await_data(server, of_a_run, all_of_them=False)
            process.kill()
            finished(process)
        assert migrate(environ) == 0
        assert await_data(server, of_a_load, all_of_them=True) == set()
        rules = ask(server, "rules")["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["name"]: rule["state"] for rule in rules if rule["state"] != "inactive"} == {}


def test_rules_and_dashboard_are_written_but_not_over_changed_ones(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "monitoring"
    assert status.write_monitoring(directory) == status.write_monitoring(directory) == 0
    written = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert written == {path.name: path.read_bytes() for path in MONITORING.iterdir()}
    (directory / "alerts.yml").write_text("groups: []")
    assert status.write_monitoring(directory) == 2
    assert (directory / "alerts.yml").read_text() == "groups: []"
    assert status.write_monitoring(directory / "alerts.yml") == 1
