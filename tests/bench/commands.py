"""The commands that load a source into a directory: this program, its peers, the limit."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.measure import Command
from tests.bench.sources import INDEXED, KEY, Source, Variant

REPOSITORY = Path(__file__).parents[2]
LIMIT_SHARDS = 10


def ours(
    source: Source, directory: Path, *, shards: int, settings: Mapping[str, str], max_open_files: int | None
) -> Command:
    """The migration itself. Settings that are not given here come from the environment, as usual."""
    environ = {
        "PYTHONPATH": str(REPOSITORY),
        "SOURCE_DB": str(source.path),
        "TABLE_NAME": "clients",
        "SHARD_DIR": str(directory),
        "LOG_DIR": str(directory.parent),
        "NUM_SHARDS": str(shards),
        "RESERVED_SHARD": str(shards),
        "SHARD_KEY": KEY,
        "INDEX_COLUMNS": ",".join(INDEXED),
        **settings,
    }
    return Command([sys.executable, "-m", "etl.migrate"], environ, max_open_files)


def peer(name: str, source: Source, directory: Path, *, shards: int) -> Command:
    """One of `tests.bench.peers`."""
    argv = [sys.executable, "-m", "tests.bench.peers", name, str(source.path), str(directory), "--shards", str(shards)]
    return Command(argv, {"PYTHONPATH": str(REPOSITORY)})


def limit(argv: Sequence[str], source: Source, directory: Path) -> Command:
    """The external program, with one thread, that sets the limit."""
    return Command([*argv, str(source.path), str(directory)])


def program(command: str) -> list[str] | None:
    """The command's words, with the program's full path: it is started in another directory; None if there is none."""
    name, *arguments = shlex.split(command) or [""]
    found = shutil.which(name)
    return [str(Path(found).absolute()), *arguments] if found else None


def why_no_peer(name: str, variant: Variant) -> str:
    """Why this peer cannot do the load; empty if it can."""
    if name == "duckdb" and variant is not Variant.STRICT:
        return "its columns have cells of one type only"
    # In another process: the one that measures must stay small, see measure.py.
    asked = f"from tests.bench.peers import why_not; print(why_not({name!r}))"
    return subprocess.run(
        [sys.executable, "-c", asked], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.strip()


def why_no_limit(shards: int, variant: Variant) -> str:
    """Why this load cannot be compared with the limit; empty if it can."""
    comparable = shards == LIMIT_SHARDS and variant is Variant.STRICT
    return "" if comparable else f"it is compared on {LIMIT_SHARDS} shards of the strict table only"
