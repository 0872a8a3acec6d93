"""A path is a path: no character of it is a pattern, an escape or a part of a URI to what opens it."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import etl
from etl.migrate import command as migrate
from etl.report import command as report
from etl.status import command as status
from etl.verify import command as verify
from tests.completeness import ledger
from tests.oracle import compare
from tests.workplace import Workplace, shard_files

NAMES = (
    *("a[b]", "[a-z]", "a*b", "a?b", "a{b,c}d", "a%41b", "a#b", "a&mode=rwc", "a b", "a'b\"c", "Шарды", "-rf", "a\nb"),
    *("~", "$HOME", "file:x?mode=rwc", "s3:", ":memory:", "a\\b", "a;b", "-[0-9]*?{x,y}%20#& 'б\"\n-z"),
)
LOOK_ALIKES = {"a[b]": "ab", "[a-z]": "m", "a*b": "axxb", "a?b": "axb", "a{b,c}d": "abd", "a%41b": "aAb"}
"""What the name would lead to, were it a pattern or an escape."""


@pytest.mark.parametrize("name", NAMES)
def test_a_shard_dir_of_any_name_is_taken_literally(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(workplace.root)
    workplace.populate(300)
    shard_dir = workplace.root / name
    source = workplace.source.rename(workplace.root / f"{name}.db")
    environ = workplace.environ(
        SOURCE_DB=source,
        SHARD_DIR=name,  # relative: the name is the first of the path
        LOG_DIR=workplace.root / f"{name}.d",
        METRICS_FILE=f"{name}.prom",
        BATCH_SIZE=20,
    )
    assert migrate.show_plan(environ) == 0
    assert [migrate.run(environ), migrate.run(environ)] == [0, 0]
    _add_rows(source)
    assert migrate.run(environ) == 0
    if name in LOOK_ALIKES:  # other windows, in files of the same names
        other = shutil.copytree(shard_dir, workplace.root / LOOK_ALIKES[name])
        for path in (other / "manifest").iterdir():
            path.write_bytes(b"noise")
    assert [verify.run(environ), status.run(environ), migrate.run(environ)] == [0, 0, 0]
    for path in (shard_dir / "manifest").iterdir():
        path.unlink()
    assert verify.run(environ) == 4
    assert verify.run(environ, repair=True) == 0
    assert [status.rebuild_manifest(environ), verify.run(environ), migrate.show_plan(environ)] == [0, 0, 0]
    assert "Traceback" not in capfd.readouterr().err
    assert compare(source, shard_dir, table="clients", key="k", num_shards=3, reserved_shard=3) == []
    assert sum(sum(ledger(path).values()) for path in shard_files({"SHARD_DIR": str(shard_dir)})) == 400
    assert etl.scan_shards(name).collect().height == 400
    with closing(etl.open_shard("x", shard_dir=name)) as database:
        assert database.execute("SELECT count(*) FROM clients").fetchone()[0] > 0
    expected = {name, f"{name}.db", f"{name}.d", f"{name}.prom", LOOK_ALIKES.get(name, name)}
    assert {path.name for path in workplace.root.iterdir()} == expected


def _add_rows(source: Path) -> None:
    with closing(sqlite3.connect(source)) as database, database:
        database.execute(
            "INSERT INTO clients (rowid, k, note) SELECT rowid + 300, 'k' || rowid, note FROM clients LIMIT 100"
        )


def test_a_report_on_a_shard_dir_of_any_name_is_made(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace.root)
    workplace.populate(300)
    environ = workplace.environ(SHARD_DIR=NAMES[-1])
    assert migrate.run(environ) == 0
    assert [report.run(environ), report.run(environ)] == [0, 0]
    text = (workplace.root / NAMES[-1] / "report.html").read_text(encoding="utf-8")
    assert "Runs in the manifest: 1." in text
    assert "error: " not in capfd.readouterr().err
