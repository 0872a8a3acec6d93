"""python -m etl.status: during a run, after it, after a kill, before the first run, and without the source."""

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest

from etl.migrate import command
from etl.migrate.refresh import Refresh
from etl.report import command as report
from etl.status import command as status
from etl.verify import command as verify
from etl.verify.scope import Scope
from tests.commands import everything, ran
from tests.completeness import faults_of, ledger, manifest
from tests.faults import fail, hang, hang_up, start, struck
from tests.workplace import Outcome, Workplace, await_line, finished, log_events, migrate, shard_files

ROWS = 1_000


def answered(environ: Mapping[str, str], *arguments: str) -> Outcome:
    return ran("etl.status", environ, *arguments)


def snapshot_of(environ: Mapping[str, str]) -> dict[str, Any]:
    answer = answered(environ, "--json")
    assert answer.code == 0, answer.err
    values: dict[str, Any] = json.loads(answer.out)
    return values


def rows_by_ledger(environ: Mapping[str, str]) -> list[int]:
    return [sum(ledger(path).values()) for path in shard_files(environ)]


def test_before_the_first_run_there_is_only_the_source(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    before = everything(workplace)
    found = snapshot_of(workplace.environ())
    assert (found["run"], found["rows"], found["lag_rows"], found["verification"]) == (None, 0, ROWS, None)
    assert [each["rows"] for each in found["shards"]] == [None] * 4
    answer = answered(workplace.environ())
    assert answer.code == 0
    assert "no run is recorded" in answer.out
    assert everything(workplace) == before


def test_without_source_and_shards_it_says_so(workplace: Workplace) -> None:
    answer = answered(workplace.environ())
    assert answer.code == 0
    assert "found no file of that name" in answer.out


def test_a_name_that_is_no_utf8_is_shown_with_an_escape(workplace: Workplace) -> None:
    answer = answered(workplace.environ(SHARD_DIR="\udcff") | {"PYTHONIOENCODING": "utf-8:strict"})
    assert answer.code == 0
    assert "\\udcff" in answer.out


def test_wrong_settings_are_refused(workplace: Workplace) -> None:
    answer = answered(workplace.environ(NUM_SHARDS="many", WRITERS=0))
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 2


def test_after_a_run_it_shows_rows_bytes_lag_and_success(workplace: Workplace) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k")
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    workplace.populate(7, first=ROWS + 1)
    before = everything(workplace)
    found = snapshot_of(environ)
    assert everything(workplace) == before
    assert [each["rows"] for each in found["shards"]] == rows_by_ledger(environ)
    assert {each["known_from"] for each in found["shards"]} == {"ledger"}
    assert [each["bytes"] for each in found["shards"]] == [path.stat().st_size for path in shard_files(environ)]
    run = found["run"]
    assert (run["outcome"], run["phase"], run["exit_code"], run["fraction"]) == ("done", "done", 0, 1.0)
    assert (run["rows"], run["windows"], found["rows"], found["lag_rows"]) == (ROWS, ROWS / 100, ROWS, 7)
    assert run["last_success_at"] >= run["started_at"]
    assert migrate(environ) == 0
    assert snapshot_of(environ)["lag_rows"] == 0


def test_the_page_fits_80_columns_and_ends_in_the_shards(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    assert migrate(workplace.environ()) == 0
    answer = answered(workplace.environ())
    lines = [line for line in answer.out.splitlines() if str(workplace.root) not in line]
    assert max(map(len, lines)) <= 80
    assert "last run: done, exit code 0" in answer.out
    assert [line.split("│")[1].strip() for line in lines if line.startswith("│")] == ["0", "1", "2", "3"]


def test_a_running_run_is_shown_and_not_disturbed(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    workplace.populate(ROWS, first=ROWS + 1)
    with start(environ, "before a commit", 3, hang) as process:
        await_line(process, "hanging")
        found = snapshot_of(environ)
        page = answered(environ)
        assert process.poll() is None, "status has not disturbed it"
        process.kill()
        finished(process)
    run = found["run"]
    assert (run["outcome"], run["pid"], run["exit_code"]) == ("running", process.pid, None)
    assert {each["known_from"] for each in found["shards"]} <= {"run", "manifest"}
    assert run["last_success_at"] < run["started_at"], "the last success is the run before"
    assert "running: phase" in page.out


def test_percent_rows_rowids_and_rate_agree_during_a_load(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(10 * ROWS)
    with start(environ, "before a commit", 1, hang) as process:
        await_line(process, "hanging")
        time.sleep(1.5)  # until the heartbeat has written what is read
        run, page = snapshot_of(environ)["run"], answered(environ).out
        process.kill()
        finished(process)
    assert run["rows"] < run["rows_read"]
    assert run["rows_read"] == run["rowids_read"], "rowids of this table have no gaps"
    loaded = (run["rowids_read"] + run["rowids_done"]) / 2 / run["rowids_todo"]
    assert 0.5 * loaded < run["fraction"] < loaded, "a part is left for the index on the key"
    elapsed_s = run["eta_s"] * run["fraction"] / (1 - run["fraction"])
    assert run["rows_per_s"] * elapsed_s == pytest.approx((run["rows_read"] + run["rows"]) / 2, rel=0.02)
    assert f"{run['rows_read']:,} rows read, {run['rows']:,} written, " in page


def test_the_rate_of_a_run_is_the_same_in_every_place(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k", METRICS_FILE=workplace.root / "etl.prom")
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    rate = re.search(r"done: 1,000 rows in .* s \(([\d,]+) rows/s\)", capsys.readouterr().out)
    assert rate is not None
    assert f"  1,000 rows, {rate[1]} rows/s, " in answered(environ).out
    exact = snapshot_of(environ)["run"]["rows_per_s"]
    number = rate[1].replace(",", "")
    assert f"{exact:.0f}" == number == str(log_events(workplace, "end")[-1]["rows_per_s"])
    assert f'run_rows_per_second{{table="clients"}} {exact}' in (workplace.root / "etl.prom").read_text()
    assert report.run(environ) == 0
    assert f"With indexes it wrote 1,000 rows at {rate[1]} rows/s." in (workplace.shards / "report.html").read_text()


def test_updated_rows_of_a_refresh_are_shown(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    workplace.script("UPDATE clients SET note = 'new' WHERE rowid % 100 = 0")
    assert command.run(environ, refresh=Refresh()) == 0
    assert status.run(environ) == 0
    assert f"{ROWS // 100} old rows updated" in capsys.readouterr().out


def torn(environ: Mapping[str, str]) -> list[int]:
    """The shards that a killed run has left with rows and in the middle of a transaction."""
    files = [(path, path.with_name(path.name + "-journal")) for path in shard_files(environ)]
    return [
        number
        for number, (path, journal) in enumerate(files)
        if path.stat().st_size and journal.exists() and journal.stat().st_size
    ]


def test_a_shard_in_the_middle_of_a_transaction_is_not_read(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(10 * ROWS)
    workplace.script("UPDATE clients SET note = printf('%05000d', rowid)")
    assert struck(environ, "before a commit", 7).code == -9
    assert torn(environ)
    found = snapshot_of(environ)
    read = [number for number, each in enumerate(found["shards"]) if each["known_from"] == "ledger"]
    assert not set(read) & set(torn(environ))
    (workplace.shards / "clients_status.json").unlink()
    assert {snapshot_of(environ)["shards"][number]["known_from"] for number in torn(environ)} == {"manifest"}


@pytest.mark.parametrize("point", ["before a commit", "mid-batch", "before a shard turns to WAL"])
def test_a_killed_run_is_interrupted_and_the_next_is_done(workplace: Workplace, point: str) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k")
    workplace.populate(ROWS)
    assert struck(environ, point, 2).code == -9
    before = everything(workplace)
    found = snapshot_of(environ)
    assert everything(workplace) == before
    assert (found["run"]["outcome"], found["run"]["exit_code"]) == ("interrupted", None)
    assert "run again to resume" in answered(environ).out
    assert migrate(environ) == 0
    assert snapshot_of(environ)["run"]["outcome"] == "done"


def test_a_failure_is_shown_with_its_line_and_a_stop_with_its_code(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(10 * ROWS)
    assert struck(environ, "before a commit", 2, hang_up).code == 129
    run = snapshot_of(environ)["run"]
    assert (run["outcome"], run["exit_code"], run["last_success_at"]) == ("stopped", 129, None)
    assert struck(environ, "before a commit", 2, fail).code == 1
    run = snapshot_of(environ)["run"]
    assert (run["outcome"], run["exit_code"]) == ("failed", 1)
    assert run["error"].startswith("unexpected RuntimeError")
    assert run["error"] in answered(environ).out
    assert migrate(environ | {"NUM_SHARDS": "4"}) == 2
    assert snapshot_of(environ)["run"]["outcome"] == "refused"


def test_after_a_run_the_source_may_be_missing(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    workplace.source.unlink()
    found = snapshot_of(environ)
    assert (found["rows"], found["lag_rows"]) == (ROWS, None)
    assert len(found["notes"]) == 1


def test_shards_are_counted_by_their_ledgers_if_the_status_file_is_lost_or_damaged(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    state = workplace.shards / "clients_status.json"
    for content in ("", "[]", "{}", '{"format_version": 1}', "noise"):
        state.write_text(content)
        found = snapshot_of(environ)
        assert (found["run"], found["rows"], found["lag_rows"]) == (None, ROWS, 0)
    state.unlink()
    assert snapshot_of(environ)["rows"] == ROWS


def test_a_shard_that_another_program_has_open_is_read_with_its_wal(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    holder = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('SELECT * FROM clients').fetchone();"
    holder += " print('open', flush=True); sys.stdin.read()"
    path = shard_files(environ)[0]
    with subprocess.Popen(
        [sys.executable, "-c", holder, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        workplace.populate(100, first=ROWS + 1)
        assert workplace.command(environ).code == 0
        assert path.with_name(path.name + "-wal").stat().st_size > 0
        found = snapshot_of(environ)
        reader.communicate("")
    assert (found["rows"], found["lag_rows"], found["notes"]) == (ROWS + 100, 0, [])


def test_the_last_verification_is_shown_with_what_it_found(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(10)
    workplace.script("CREATE TABLE goods (k TEXT)", "INSERT INTO goods VALUES ('a')")
    other = workplace.environ(TABLE_NAME="goods")
    assert migrate(environ) == migrate(other) == 0
    assert "last verification: never" in answered(environ).out
    assert verify.run(environ) == 0
    assert "last verification: equal, 20" in answered(environ).out
    assert snapshot_of(other)["verification"] is None
    with closing(sqlite3.connect(shard_files(environ)[0])) as shard:
        shard.execute("DELETE FROM clients")
        shard.commit()
    assert verify.run(environ, scope=Scope(shards=frozenset({0}))) == 4
    found = snapshot_of(environ)["verification"]
    assert (found["outcome"], found["exit_code"]) == ("different", 4)
    assert f"different, {found['differences']['missing']} missing" in answered(environ).out
    assert "partial" in answered(environ).out
    (workplace.shards / "clients_verify.json").write_text("noise")
    assert "verify again" in answered(environ).out


def test_two_tables_in_a_directory_have_a_status_file_each(workplace: Workplace) -> None:
    workplace.populate(10)
    workplace.script("CREATE TABLE goods (k TEXT)", "INSERT INTO goods VALUES ('a'), ('b'), (NULL)")
    assert migrate(workplace.environ()) == 0
    assert migrate(workplace.environ(TABLE_NAME="goods")) == 0
    assert [snapshot_of(workplace.environ(TABLE_NAME=name))["run"]["rows"] for name in ("clients", "goods")] == [10, 3]


def test_the_manifest_is_rebuilt_from_the_ledgers_alone(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    good = manifest(environ).sort("first_rowid")
    (path,) = (workplace.shards / "manifest").glob("*.parquet")
    damaged = good.with_columns(rows=good["rows"] + (good["first_rowid"] == 1).cast(good["rows"].dtype))
    damaged.write_parquet(path)
    (workplace.shards / "manifest" / "mended-7.parquet").write_bytes(b"noise" * 99)
    assert status.rebuild_manifest(environ) == 0
    assert "10 windows" in capsys.readouterr().out
    assert faults_of(environ) == []
    rebuilt = manifest(environ).sort("first_rowid")
    assert rebuilt["bytes"][0] is None, "the measurements of a damaged window are dropped"
    assert rebuilt[1:].equals(good[1:]), "correct windows are kept with their measurements"
    path.unlink(missing_ok=True)
    assert status.rebuild_manifest(environ) == 0
    assert faults_of(environ) == []


def test_the_manifest_is_not_rebuilt_during_a_run(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    with start(environ, "before a commit", 2, hang) as process:
        await_line(process, "hanging")
        answer = answered(environ, "--rebuild-manifest")
        process.kill()
        finished(process)
    assert answer.code == 3
    assert answered(workplace.environ(SHARD_DIR=workplace.root / "none"), "--rebuild-manifest").code == 2
    assert not (workplace.root / "none").exists()
