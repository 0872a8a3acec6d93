"""python -m etl.status: during a run, after it, after its death, before the first and without the source."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest

from etl.status import command as status
from etl.verify import command as verify
from etl.verify.scope import Scope
from tests.commands import everything, ran
from tests.completeness import faults_of, ledger, manifest
from tests.faults import fail, hang, hang_up, start, struck
from tests.workplace import Outcome, Workplace, await_line, finished, migrate, shard_files

ROWS = 1_000


def asked(environ: Mapping[str, str], *arguments: str) -> Outcome:
    return ran("etl.status", environ, *arguments)


def told(environ: Mapping[str, str]) -> dict[str, Any]:
    answer = asked(environ, "--json")
    assert answer.code == 0, answer.err
    values: dict[str, Any] = json.loads(answer.out)
    return values


def rows_by_ledger(environ: Mapping[str, str]) -> list[int]:
    return [sum(ledger(path).values()) for path in shard_files(environ)]


def test_nothing_has_run_yet(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    before = everything(workplace)
    found = told(workplace.environ())
    assert (found["run"], found["rows"], found["lag_rows"], found["verification"]) == (None, 0, ROWS, None)
    assert [each["rows"] for each in found["shards"]] == [None] * 4
    answer = asked(workplace.environ())
    assert answer.code == 0
    assert "no run is recorded" in answer.out
    assert everything(workplace) == before


def test_not_even_the_source_is_there(workplace: Workplace) -> None:
    answer = asked(workplace.environ())
    assert answer.code == 0
    assert "found no file of that name" in answer.out


def test_wrong_settings_are_refused(workplace: Workplace) -> None:
    answer = asked(workplace.environ(NUM_SHARDS="many", WRITERS=0))
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 2


def test_after_a_run_it_tells_rows_bytes_lag_and_success(workplace: Workplace) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k")
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    workplace.populate(7, first=ROWS + 1)
    before = everything(workplace)
    found = told(environ)
    assert everything(workplace) == before
    assert [each["rows"] for each in found["shards"]] == rows_by_ledger(environ)
    assert {each["known_from"] for each in found["shards"]} == {"ledger"}
    assert [each["bytes"] for each in found["shards"]] == [path.stat().st_size for path in shard_files(environ)]
    run = found["run"]
    assert (run["outcome"], run["phase"], run["exit_code"], run["fraction"]) == ("done", "done", 0, 1.0)
    assert (run["rows"], run["windows"], found["rows"], found["lag_rows"]) == (ROWS, ROWS / 100, ROWS, 7)
    assert run["last_success_at"] >= run["started_at"]
    assert migrate(environ) == 0
    assert told(environ)["lag_rows"] == 0


def test_the_page_fits_80_columns_and_ends_in_the_shards(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    assert migrate(workplace.environ()) == 0
    answer = asked(workplace.environ())
    lines = [line for line in answer.out.splitlines() if str(workplace.root) not in line]
    assert max(map(len, lines)) <= 80
    assert "last run: done, exit code 0" in answer.out
    assert [line.split("│")[1].strip() for line in lines if line.startswith("│")] == ["0", "1", "2", "3"]


def test_a_run_at_work_is_seen_at_work(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    with start(environ, "before an index", 1, hang) as process:
        # No index is asked for: it runs to its end.
        finished(process)
    workplace.populate(ROWS, first=ROWS + 1)
    with start(environ, "before a commit", 3, hang) as process:
        await_line(process, "hanging")
        found = told(environ)
        page = asked(environ)
        assert process.poll() is None, "to look is not to disturb"
        process.kill()
        finished(process)
    run = found["run"]
    assert (run["outcome"], run["pid"], run["exit_code"]) == ("running", process.pid, None)
    assert {each["known_from"] for each in found["shards"]} <= {"run", "manifest"}
    assert run["last_success_at"] < run["started_at"], "the success is that of the run before"
    assert "running: phase" in page.out


def torn(environ: Mapping[str, str]) -> list[int]:
    """The shards that a killed run has left with something in them and in the middle of a transaction."""
    files = [(path, path.with_name(path.name + "-journal")) for path in shard_files(environ)]
    return [
        number
        for number, (path, journal) in enumerate(files)
        if path.stat().st_size and journal.exists() and journal.stat().st_size
    ]


def test_what_is_half_written_is_not_read(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(10 * ROWS)
    workplace.script("UPDATE clients SET note = printf('%05000d', rowid)")
    assert struck(environ, "before a commit", 7).code == -9
    assert torn(environ)
    found = told(environ)
    read = [number for number, each in enumerate(found["shards"]) if each["known_from"] == "ledger"]
    assert not set(read) & set(torn(environ))
    (workplace.shards / "clients_status.json").unlink()
    assert {told(environ)["shards"][number]["known_from"] for number in torn(environ)} == {"manifest"}


@pytest.mark.parametrize("point", ["before a commit", "mid-batch", "before a shard turns to WAL"])
def test_a_killed_run_is_interrupted_and_the_next_is_done(workplace: Workplace, point: str) -> None:
    environ = workplace.environ(INDEX_COLUMNS="k")
    workplace.populate(ROWS)
    assert struck(environ, point, 2).code == -9
    before = everything(workplace)
    found = told(environ)
    assert everything(workplace) == before
    assert (found["run"]["outcome"], found["run"]["exit_code"]) == ("interrupted", None)
    assert "run again to resume" in asked(environ).out
    assert migrate(environ) == 0
    assert told(environ)["run"]["outcome"] == "done"


def test_a_failure_shows_its_line_and_a_stop_its_code(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(10 * ROWS)
    assert struck(environ, "before a commit", 2, hang_up).code == 129
    run = told(environ)["run"]
    assert (run["outcome"], run["exit_code"], run["last_success_at"]) == ("stopped", 129, None)
    assert struck(environ, "before a commit", 2, fail).code == 1
    run = told(environ)["run"]
    assert (run["outcome"], run["exit_code"]) == ("failed", 1)
    assert run["error"].startswith("unexpected RuntimeError")
    assert run["error"] in asked(environ).out
    assert migrate(environ | {"NUM_SHARDS": "4"}) == 2
    assert told(environ)["run"]["outcome"] == "refused"


def test_the_source_may_be_gone_when_all_is_done(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    workplace.source.unlink()
    found = told(environ)
    assert (found["rows"], found["lag_rows"]) == (ROWS, None)
    assert len(found["notes"]) == 1


def test_shards_are_counted_by_their_ledgers_when_the_state_file_is_lost_or_spoilt(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    state = workplace.shards / "clients_status.json"
    for content in ("", "[]", "{}", '{"format_version": 1}', "noise"):
        state.write_text(content)
        found = told(environ)
        assert (found["run"], found["rows"], found["lag_rows"]) == (None, ROWS, 0)
    state.unlink()
    assert told(environ)["rows"] == ROWS


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
        found = told(environ)
        reader.communicate("")
    assert (found["rows"], found["lag_rows"], found["notes"]) == (ROWS + 100, 0, [])


def test_the_last_verification_is_shown_with_what_it_found(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(10)
    workplace.script("CREATE TABLE goods (k TEXT)", "INSERT INTO goods VALUES ('a')")
    other = workplace.environ(TABLE_NAME="goods")
    assert migrate(environ) == migrate(other) == 0
    assert "last verification: never" in asked(environ).out
    assert verify.run(environ) == 0
    assert "last verification: equal, 20" in asked(environ).out
    assert told(other)["verification"] is None
    with closing(sqlite3.connect(shard_files(environ)[0])) as shard:
        shard.execute("DELETE FROM clients")
        shard.commit()
    assert verify.run(environ, scope=Scope(shards=frozenset({0}))) == 4
    found = told(environ)["verification"]
    assert (found["outcome"], found["exit_code"]) == ("different", 4)
    assert f"different, {found['differences']['missing']} missing" in asked(environ).out
    assert "partial" in asked(environ).out
    (workplace.shards / "clients_verify.json").write_text("noise")
    assert "verify again" in asked(environ).out


def test_two_tables_in_a_directory_keep_their_own_state(workplace: Workplace) -> None:
    workplace.populate(10)
    workplace.script("CREATE TABLE goods (k TEXT)", "INSERT INTO goods VALUES ('a'), ('b'), (NULL)")
    assert migrate(workplace.environ()) == 0
    assert migrate(workplace.environ(TABLE_NAME="goods")) == 0
    assert [told(workplace.environ(TABLE_NAME=name))["run"]["rows"] for name in ("clients", "goods")] == [10, 3]


def test_the_manifest_is_rebuilt_from_the_ledgers_alone(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    assert migrate(environ) == 0
    good = manifest(environ).sort("first_rowid")
    (path,) = (workplace.shards / "manifest").glob("*.parquet")
    spoilt = good.with_columns(rows=good["rows"] + (good["first_rowid"] == 1).cast(good["rows"].dtype))
    spoilt.write_parquet(path)
    (workplace.shards / "manifest" / "mended-7.parquet").write_bytes(b"noise" * 99)
    assert status.rebuild_manifest(environ) == 0
    assert "10 windows" in capsys.readouterr().out
    assert faults_of(environ) == []
    rebuilt = manifest(environ).sort("first_rowid")
    assert rebuilt["bytes"][0] is None, "what is measured of a spoilt window is not to be trusted"
    assert rebuilt[1:].equals(good[1:]), "what is right is kept, its measurements too"
    path.unlink(missing_ok=True)
    assert status.rebuild_manifest(environ) == 0
    assert faults_of(environ) == []


def test_the_manifest_is_not_rebuilt_beneath_a_run(workplace: Workplace) -> None:
    environ = workplace.environ()
    workplace.populate(ROWS)
    with start(environ, "before a commit", 2, hang) as process:
        await_line(process, "hanging")
        answer = asked(environ, "--rebuild-manifest")
        process.kill()
        finished(process)
    assert answer.code == 3
    assert asked(workplace.environ(SHARD_DIR=workplace.root / "none"), "--rebuild-manifest").code == 2
    assert not (workplace.root / "none").exists()
