"""One shard for an application: read-only before the cut-over, then writable, with ids that no other shard gives."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import etl
from etl.core.errors import Refused
from etl.cutover import command as cutover
from etl.runtime.options import Given
from etl.verify import command as verify
from tests.workplace import REPOSITORY, Workplace, migrate, shard_files

TABLE = "CREATE TABLE clients (id INTEGER PRIMARY KEY, k TEXT, note TEXT)"
WRITER = """
import sys
from contextlib import closing
import etl
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    with closing(etl.open_shard(f"+7{sys.argv[3]}{number:06d}", shard_dir=sys.argv[1], writable=True)) as database:
        ids = etl.next_ids(database, 1 + number % 3)
        rows = [(one, f"+7{sys.argv[3]}{number:06d}") for one in ids]
        database.executemany("INSERT INTO clients (id, k) VALUES (?, ?)", rows)
        database.commit()
"""


def sealed(place: Workplace, ddl: str = TABLE, *, id_block: int = 1_000) -> dict[str, str]:
    place.script(ddl, *(f"INSERT INTO clients (k) VALUES ('+7000{row:07d}')" for row in range(30)))
    environ = place.environ()
    assert (migrate(environ), verify.run(environ)) == (0, 0)
    assert cutover.run(Given(environ, Path("/nowhere/.env")), id_block=id_block) == 0
    return environ


def opened(environ: dict[str, str], key: str = "+70000000001") -> sqlite3.Connection:
    return etl.open_shard(key, shard_dir=environ["SHARD_DIR"], writable=True)


def test_before_the_seal_it_reads_only(workplace: Workplace) -> None:
    workplace.populate(10)
    environ = workplace.environ()
    assert migrate(environ) == 0
    with closing(etl.open_shard("x", shard_dir=environ["SHARD_DIR"])) as database:
        assert database.execute("SELECT count(*) >= 0 FROM clients").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            database.execute("DELETE FROM clients")
        with pytest.raises(Refused, match="with a range of ids, found none"):
            etl.next_ids(database)
    with pytest.raises(Refused, match="run cutover first"):
        opened(environ)


def test_a_writable_connection_waits_for_others_and_keeps_what_it_commits(workplace: Workplace) -> None:
    environ = sealed(workplace)
    with closing(opened(environ)) as database:
        found = {
            name: database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "busy_timeout", "synchronous", "foreign_keys")
        }
        assert found == {"journal_mode": "wal", "busy_timeout": 5000, "synchronous": 2, "foreign_keys": 1}


def test_foreign_keys_of_the_table_itself_are_not_checked_because_parents_may_be_elsewhere(
    workplace: Workplace,
) -> None:
    environ = sealed(workplace, TABLE.replace("note TEXT", "note TEXT REFERENCES parents (name)"))
    with closing(opened(environ)) as database, database:
        (new_id,) = etl.next_ids(database)
        database.execute("INSERT INTO clients VALUES (?, '+70000000001', 'elsewhere')", (new_id,))


def test_two_writers_at_once_never_get_the_same_id(workplace: Workplace) -> None:
    environ = sealed(workplace)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, environ["SHARD_DIR"], "60", name],
            env={"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("111", "222")
    ]
    assert [writer.stdout and writer.stdout.readline() for writer in writers] == ["ready\n"] * 2
    for writer in writers:
        writer.communicate("go\n")
    assert [writer.returncode for writer in writers] == [0, 0]
    ids = []
    for path in shard_files(environ):
        with closing(sqlite3.connect(path)) as database:
            first, last = database.execute("SELECT first_id, last_id FROM _etl_identity").fetchone()
            new = [row[0] for row in database.execute("SELECT id FROM clients WHERE id > 30")]
            assert all(first <= one <= last for one in new)
            ids += [row[0] for row in database.execute("SELECT id FROM clients")]
    assert len(ids) == len(set(ids)) == 30 + 2 * 120


def test_an_id_is_free_even_where_the_application_has_rows_of_other_ranges(workplace: Workplace) -> None:
    environ = sealed(workplace)
    with closing(opened(environ)) as database, database:
        database.execute("INSERT INTO clients (id, k) VALUES (999999, '+70000000001')")
        first = etl.next_ids(database)[0]
        database.execute("INSERT INTO clients (id, k) VALUES (?, '+70000000001')", (first,))
        assert etl.next_ids(database, 2) == range(first + 1, first + 3)


def test_a_range_that_is_used_up_is_an_error(workplace: Workplace) -> None:
    environ = sealed(workplace, id_block=5)
    with closing(opened(environ)) as database, database:
        assert len(etl.next_ids(database, 5)) == 5
        with pytest.raises(Refused, match=r"expected 6 free ids up to .*, found 5"):
            etl.next_ids(database, 6)


def test_without_ranges_there_are_no_ids(workplace: Workplace) -> None:
    environ = sealed(workplace, id_block=0)
    with closing(opened(environ)) as database, pytest.raises(Refused, match="see cutover --id-block"):
        etl.next_ids(database)


def test_a_refusal_leaves_no_transaction_open_and_row_factories_do_not_matter(workplace: Workplace) -> None:
    environ = sealed(workplace, id_block=5)
    with closing(opened(environ)) as database:
        database.row_factory = lambda cursor, row: dict(zip([each[0] for each in cursor.description], row, strict=True))
        for count in (0, -3, 6):
            with pytest.raises(Refused):
                etl.next_ids(database, count)
            assert not database.in_transaction
        assert len(etl.next_ids(database)) == 1
        assert database.in_transaction


def test_columns_that_hide_the_rowid_change_nothing(workplace: Workplace) -> None:
    environ = sealed(workplace, TABLE.replace("note TEXT", "rowid TEXT, _rowid_ TEXT, oid TEXT, note TEXT"))
    with closing(opened(environ)) as database, database:
        (new_id,) = etl.next_ids(database)
        database.execute("INSERT INTO clients (id, k) VALUES (?, '+70000000001')", (new_id,))
        assert etl.next_ids(database) == range(new_id + 1, new_id + 2)
