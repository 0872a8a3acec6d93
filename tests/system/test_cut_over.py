"""The day an application moves, as docs/moving-an-application.md has it: no row is lost, and no id is given twice."""

import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.oracle import expected_shard
from tests.workplace import REPOSITORY, Workplace, await_line, finished, shard_files

MANUAL = (REPOSITORY / "docs" / "moving-an-application.md").read_text(encoding="utf-8")
ROWS, NEW = 3_000, 60
APPLICATION = """
import random, sqlite3, sys, time
from pathlib import Path
path, stop = sys.argv[1], Path(sys.argv[2])
dice = random.Random(3)
database = sqlite3.connect(path, timeout=60, isolation_level=None)
print("writing", flush=True)
while not stop.exists():  # appends, updates, moves to another key, deletes
    database.execute("BEGIN IMMEDIATE")
    for _ in range(5):
        ID = dice.randrange(1, 3000)
        database.execute("UPDATE clients SET NOTE = NOTE || 'x' WHERE ID = ?", (ID,))
        database.execute("INSERT INTO clients (MOBILE_NUMBER) VALUES (?)", (f"+7111{dice.randrange(10**7):07d}",))
    database.execute("UPDATE clients SET MOBILE_NUMBER = ? WHERE ID = ?", (f"+7222{dice.randrange(10**7):07d}", ID))
    database.execute("DELETE FROM clients WHERE ID = ?", (dice.randrange(1, 3000),))
    database.execute("COMMIT")
    time.sleep(0.1)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL)


def application_code() -> str:
    """The application's function, and a loop that calls it for its own keys."""
    (block,) = [block for block in blocks("python") if "next_ids" in block]
    lines = [line[4:] for line in block.splitlines() if line[:4] in (">>> ", "... ")]
    call = f"for n in range({NEW}):\n    add_client(f'{{sys.argv[2]}}{{n}}', sys.argv[1])"
    return "\n".join([*lines, "import sys", call])


def shell(environ: dict[str, str], command: str) -> int:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, **environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["sh", "-c", command], cwd=environ["LOG_DIR"], env=environ, capture_output=True, check=False, timeout=120
    )
    return done.returncode


def rows_of(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT * FROM clients").fetchall()


def test_the_day_of_the_move(workplace: Workplace) -> None:
    keys = ", ".join(f"('+7000{row:07d}')" for row in range(ROWS))
    workplace.script(
        "CREATE TABLE clients (ID INTEGER PRIMARY KEY, MOBILE_NUMBER TEXT, NOTE TEXT DEFAULT '')",
        f"INSERT INTO clients (MOBILE_NUMBER) VALUES {keys}",
    )
    workplace.logs.mkdir()
    environ = workplace.environ(SHARD_KEY="MOBILE_NUMBER")
    cron, stopped, seal = map(str.splitlines, blocks("sh"))
    stop = workplace.root / "stop"
    with subprocess.Popen(
        [sys.executable, "-c", APPLICATION, str(workplace.source), str(stop)], stdout=subprocess.PIPE, text=True
    ) as application:
        try:
            await_line(application, "writing")
            assert [shell(environ, command) for command in cron * 2] == [0, 0]
            assert shell(environ, stopped[-1]) == 2, "the application still writes"
        finally:
            stop.touch()
        assert finished(application).code == 0
    assert [shell(environ, command) for command in stopped] == [0, 0, 0]
    assert [shell(environ, command) for command in seal] == [0]

    writers = [
        subprocess.Popen(
            [sys.executable, "-c", application_code(), environ["SHARD_DIR"], name], env={"PYTHONPATH": str(REPOSITORY)}
        )
        for name in ("+7333", "+7444")
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert [shell(environ, command) for command in cron] == [2], "a cron line that was forgotten"
    assert shell(environ, "python -m etl.cutover --undo") == 2

    by_shard = [rows_of(path) for path in shard_files(environ)]
    found = [row for rows in by_shard for row in rows]
    assert len({row[0] for row in found}) == len(found) == len(rows_of(workplace.source)) + 2 * NEW
    new = {f"{name}{n}" for name in ("+7333", "+7444") for n in range(NEW)}
    assert Counter(row for row in found if row[1] not in new) == Counter(rows_of(workplace.source))
    for number, rows in enumerate(by_shard):
        assert {expected_shard(str(row[1]).encode(), num_shards=3, reserved_shard=3) for row in rows} <= {number}


def test_the_query_of_the_manual_gives_the_ids_of_next_ids() -> None:
    (query,) = [block for block in blocks("sql") if "first_id" in block]
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE clients (ID INTEGER PRIMARY KEY)")
        database.execute("CREATE TABLE _etl_identity AS SELECT 100 AS first_id, 199 AS last_id")
        database.execute("INSERT INTO clients VALUES (7), (5000)")
        assert database.execute(query).fetchall() == [(100,)]
        database.execute("INSERT INTO clients VALUES (100), (104)")
        assert database.execute(query).fetchall() == [(105,)]
        database.execute("INSERT INTO clients VALUES (199)")
        assert database.execute(query).fetchall() == [], "the range is used up"
        database.execute("UPDATE _etl_identity SET first_id = NULL, last_id = NULL")
        assert database.execute(query).fetchall() == [], "there is none"
