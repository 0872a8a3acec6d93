"""etl.migrate --plan: what a run would do, or every reason why it would be refused; it changes no file."""

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest

from etl.migrate.plan import sample
from etl.migrate.plan.plan import make
from etl.runtime import settings
from tests.commands import everything, ran
from tests.completeness import manifest
from tests.faults import hang, start, struck
from tests.workplace import Outcome, Workplace, await_line, finished, log_events, migrate, shard_files

ROWS = 2_000
MARKER = "Zxq7secret"


def planned(environ: Mapping[str, str], *arguments: str) -> Outcome:
    return ran("etl.migrate", environ, "--plan", *arguments)


def plan_of(environ: Mapping[str, str], code: int = 0) -> dict[str, Any]:
    answer = planned(environ, "--json")
    assert answer.code == code, answer.err
    values: dict[str, Any] = json.loads(answer.out)
    return values


def test_before_the_first_run_it_shows_everything_and_creates_nothing(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    before = everything(workplace)
    found = plan_of(workplace.environ(INDEX_COLUMNS="k"))
    page = planned(workplace.environ(INDEX_COLUMNS="k"))
    assert everything(workplace) == before
    assert not workplace.shards.exists()
    assert not workplace.logs.exists()
    assert found["rows"] == found["rows_todo"] == {"rows": ROWS, "is_exact": True}
    assert found["windows_todo"] == ROWS / 100
    assert found["sampled_rows"] == ROWS
    assert found["trial_rows"] > 0
    assert found["load_s"] > 0
    assert found["index_s"] > 0
    assert (found["refusals"], found["exit_code"]) == ([], 0)
    assert page.code == 0
    assert "a run may start; nothing was touched" in page.out
    assert max(len(line) for line in page.out.splitlines() if line.startswith(("│", "┃"))) <= 80


def test_a_table_of_two_thousand_mixed_columns_has_a_plan(workplace: Workplace) -> None:
    names = ["k", *(f"c{number}" for number in range(1_999))]
    workplace.script(
        f"CREATE TABLE clients ({', '.join(names)})",
        *(f"INSERT INTO clients VALUES ({', '.join([cell] * 2_000)})" for cell in ("1", "'one'", "x'01'", "1.5")),
    )
    found = plan_of(workplace.environ())
    assert (found["sampled_rows"], found["trial_rows"], found["refusals"]) == (4, 4, [])
    assert {each["name"]: each["read_type"] for each in found["columns"]} == dict.fromkeys(names, "variant")
    assert all(each["classes"] == dict.fromkeys(("integer", "text", "blob", "real"), 0.25) for each in found["columns"])


@pytest.mark.parametrize("indexes", ["", "k,INN,note"])
def test_the_disk_estimate_is_the_one_that_decides_and_is_near_the_truth(workplace: Workplace, indexes: str) -> None:
    workplace.populate(30_000)
    environ = workplace.environ(INDEX_COLUMNS=indexes, BATCH_SIZE=5000)
    found = plan_of(environ)
    assert migrate(environ) == 0
    taken = {str(number): path.stat().st_size for number, path in enumerate(shard_files(environ))}
    (room,) = log_events(workplace, "room")
    assert found["bytes_todo"] == room["rows"] + room["indexes"] + room["meanwhile"], "the figure that decides"
    assert sum(taken.values()) <= room["rows"] + room["indexes"] <= 1.3 * sum(taken.values())
    reserved, estimate = taken.pop("3"), found["shards"].pop("3")
    assert taken == pytest.approx(found["shards"], rel=0.25)
    assert 0.6 * estimate < reserved <= estimate, "rows without a key have short entries in the key's index"


def test_after_a_run_only_what_is_new_is_to_do(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    assert migrate(environ) == 0
    workplace.populate(150, first=ROWS + 1)
    before = everything(workplace)
    found = plan_of(environ)
    assert everything(workplace) == before
    assert (found["rows"]["rows"], found["rows_todo"]["rows"], found["windows_todo"]) == (ROWS + 150, 150, 2)


@pytest.mark.parametrize("point", ["mid-batch", "between two shards' commits", "before an index"])
def test_after_a_kill_it_changes_nothing_either(workplace: Workplace, point: str) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k")
    assert struck(environ, point, 3).code == -9
    before = everything(workplace)
    found = plan_of(environ)
    assert everything(workplace) == before
    journals = [path for path in workplace.shards.glob("*-journal") if path.stat().st_size]
    assert any("middle of a transaction" in warning for warning in found["warnings"]) is bool(journals)
    assert found["rows_todo"]["rows"] <= ROWS
    assert found["exit_code"] == 0
    assert migrate(environ) == 0
    assert manifest(environ)["rows"].sum() == ROWS


def test_during_a_run_it_says_that_one_is_at_work(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ()
    with start(environ, "before a commit", 3, hang) as process:
        await_line(process, "hanging")
        found = plan_of(environ, code=3)
        process.kill()
        finished(process)
    (refusal,) = found["refusals"]
    assert f"pid {process.pid}" in refusal
    assert any("at work here" in warning for warning in found["warnings"])


def test_it_says_which_indexes_there_will_be_and_what_changes(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    assert migrate(workplace.environ(INDEX_COLUMNS="note")) == 0
    workplace.script("CREATE INDEX own ON clients (k)")
    environ = workplace.environ(INDEX_COLUMNS="INN")
    found, page = plan_of(environ), planned(environ).out
    changes = {"own": "created", "idx_clients_INN": "created"}
    assert found["index_changes"] == changes | {"idx_clients_k": "dropped", "idx_clients_note": "dropped"}
    assert found["indexes"].keys() == changes.keys()
    assert re.search(r"^    index own: about \d+\.\d kB in all shards, created$", page, re.MULTILINE)
    assert "    index idx_clients_k: dropped\n" in page


def test_every_reason_for_a_refusal_is_reported_at_once(workplace: Workplace) -> None:
    workplace.populate(ROWS)
    environ = workplace.environ()
    assert migrate(environ) == 0
    (workplace.root / "file").write_text("in the way")
    shard_files(environ)[3].write_bytes(b"noise" * 5000)
    bad = environ | {
        "SHARD_KEY": "note",
        "LOG_DIR": str(workplace.root / "file"),
        "METRICS_FILE": str(workplace.root / "none" / "etl.prom"),
    }
    answer = planned(bad)
    assert answer.code == 2
    assert "a run would be refused" in answer.out
    errors = answer.err.splitlines()
    assert all(line.startswith("error: ") for line in errors)
    for text in (
        "LOG_DIR=",
        "METRICS_FILE=",
        "shard_00.db and 2 more: made under",
        "found no database",
    ):
        assert sum(text in line for line in errors) == 1, text
    assert len(errors) == 4
    assert len(plan_of(bad, code=2)["refusals"]) == 6, "JSON has each shard's"


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"SOURCE_DB": "none.db"}, 1),
        ({"TABLE_NAME": "none"}, 1),
        ({"NUM_SHARDS": "0", "READERS": "x"}, 2),
        ({"SHARD_DIR": "\udcff", "PYTHONIOENCODING": "utf-8:strict"}, 1),
    ],
)
def test_what_refuses_a_run_refuses_its_plan(workplace: Workplace, changes: dict[str, str], count: int) -> None:
    workplace.populate(10)
    before = everything(workplace)
    answer = planned(workplace.environ() | changes)
    assert answer.code == 2
    assert len(answer.err.splitlines()) == count
    assert everything(workplace) == before


def test_read_types_follow_a_sample_spread_over_the_whole_table(workplace: Workplace) -> None:
    workplace.script(
        "CREATE TABLE clients (k TEXT, plain INTEGER, late INTEGER, d DATE, n NUMERIC, any)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
        "INSERT INTO clients SELECT 'key' || i, i, CASE WHEN i > 15000 THEN 'text' ELSE i END, '2026-01-01', "
        "CASE i % 2 WHEN 0 THEN i ELSE i + 0.5 END, x'00' FROM n",
    )
    columns = {each["name"]: each for each in plan_of(workplace.environ())["columns"]}
    assert {name: each["read_type"] for name, each in columns.items()} == {
        "k": "text",
        "plain": "integer",
        "late": "variant",
        "d": "text",
        "n": "variant",
        "any": "blob",
    }
    assert columns["late"]["classes"] == pytest.approx({"integer": 0.75, "text": 0.25}, abs=0.01)
    assert columns["late"]["why"].startswith("widened from integer: 2")
    assert columns["n"]["classes"] == pytest.approx({"integer": 0.5, "real": 0.5}, abs=0.02)
    assert columns["d"]["why"] == "affinity numeric, by the sample's cells"


def test_the_shape_of_keys_is_shown_and_no_key(workplace: Workplace) -> None:
    keys = [None] * 10 + [""] * 20 + ["  "] * 30 + [f" {MARKER}"] * 4 + [f"+{MARKER}"] * 5 + [MARKER] * 31
    workplace.script("CREATE TABLE clients (k TEXT)")
    with closing(sqlite3.connect(workplace.source)) as database, database:
        database.executemany("INSERT INTO clients VALUES (?)", [(key,) for key in keys])
    found = plan_of(workplace.environ())
    assert found["key"] == {
        "name": "k",
        "affinity": "text",
        "null": 0.1,
        "empty": 0.2,
        "blank": 0.3,
        "surrounding_spaces": 4,
        "with_plus": 5,
        "differing_lengths": 2,
        "shortest": len(MARKER),
        "longest": len(MARKER) + 1,
    }
    warnings = " ".join(found["warnings"])
    assert "4 of 100 sampled keys have spaces around them" in warnings
    assert "5 of 100 sampled keys have a +" in warnings
    assert "2 different lengths" in warnings
    page = planned(workplace.environ())
    assert MARKER not in page.out + page.err + json.dumps(found)


@pytest.mark.parametrize(("declared", "warnings"), [("TEXT", 0), ("STRING", 1), ("INTEGER", 1), ("", 1)])
def test_a_key_column_that_is_not_text_by_affinity_warns(workplace: Workplace, declared: str, warnings: int) -> None:
    workplace.script(f"CREATE TABLE clients (k {declared})", "INSERT INTO clients VALUES ('07867')")
    found = plan_of(workplace.environ())["warnings"]
    assert sum("its affinity is" in warning for warning in found) == warnings


def test_a_table_without_rows_has_a_plan_too(workplace: Workplace) -> None:
    workplace.script("CREATE TABLE clients (k TEXT)")
    found = plan_of(workplace.environ())
    assert (found["rows"]["rows"], found["windows_todo"], found["sampled_rows"]) == (0, 0, 0)
    assert planned(workplace.environ()).code == 0


@pytest.mark.parametrize("step", [1, 3, 1_000_003])
def test_rows_of_a_large_file_are_estimated(workplace: Workplace, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    workplace.script(
        "CREATE TABLE clients (k TEXT, pad TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT -4000 UNION ALL SELECT i + 1 FROM n WHERE i < 15999) "
        f"INSERT INTO clients (rowid, k, pad) SELECT i * {step}, 'key' || i, printf('%050d', i) FROM n",
    )
    monkeypatch.setattr(sample, "_COUNTED_BYTES", 0)
    found = make(settings.load(workplace.environ()))
    assert found.rows is not None
    assert not found.rows.is_exact
    assert found.rows.rows == pytest.approx(20_000, rel=0.1)
    assert found.refusals == []


def test_options_that_cannot_be_combined_are_refused(workplace: Workplace) -> None:
    assert planned(workplace.environ(), "--demo").code == 2
    assert planned(workplace.environ(), "5").code == 2
