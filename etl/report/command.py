"""python -m etl.report: the notebook on the shards' balance, executed on SHARD_DIR, as one page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from etl import __version__
from etl.core.errors import EtlError, Refused
from etl.runtime import files, log, startup
from etl.runtime.console import complain, say, stand_in_for_closed_streams
from etl.runtime.settings import Settings, load
from etl.runtime.version import Version
from etl.shards import found_set

_NOTEBOOK = "validate_shards.ipynb"
_MOST_PATH_BYTES = 95
"""A socket's whole path has 107."""
_NEEDED = ("nbclient", "ipykernel", "markdown_it")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def run(environ: Mapping[str, str], env_file: Path | None = None) -> int:
    """Writes SHARD_DIR/report.html by the settings of `environ` over `env_file`; the exit code."""
    try:
        path = make(load(environ, env_file))
    except EtlError as error:
        return complain(error)
    say(f"report: {path}")
    return 0


def make(settings: Settings) -> Path:
    """Executes the notebook and writes its page, whole or not at all, for its owner alone."""
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        raise Refused(
            f"python -m etl.report: expected the notebooks extra, found no {', '.join(lacking)}; run pip install "
            "'shard-migrate[notebooks]', or pip install '.[notebooks]' in a checkout"
        )
    from etl.report.html import page  # noqa: PLC0415 - of the extra

    files.check(settings, files.REPORT)
    shard_dir = settings.SHARD_DIR.absolute()
    found = found_set.find(shard_dir, settings.TABLE_NAME)
    found.check(found.shard_map.shards)
    cells = _executed({"SHARD_DIR": str(shard_dir), "TABLE_NAME": settings.TABLE_NAME})
    made = f"{log.now():%Y-%m-%d %H:%M} UTC"
    footer = f"{shard_dir}, {made}, shard-migrate {__version__}. No cell of the table is in this page."
    text = page(cells, title=f"Shards of {found.table}", footer=footer)
    return _write(files.REPORT.path(shard_dir), text)


def notebook() -> Path:
    """The notebook's file: in the installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    installed = here / "notebooks" / _NOTEBOOK
    return installed if installed.is_file() else here.parent / "notebooks" / _NOTEBOOK


def _executed(settings: Mapping[str, str]) -> list[dict[str, Any]]:
    """The notebook's cells after a run in a kernel of its own: this interpreter, and no file of the user's."""
    from jupyter_client.kernelspec import KernelSpecManager  # noqa: PLC0415 - of the extra, as are the next two
    from jupyter_client.manager import AsyncKernelManager  # noqa: PLC0415
    from nbclient import NotebookClient  # noqa: PLC0415
    from nbclient.exceptions import CellExecutionError  # noqa: PLC0415
    from nbformat import reads  # noqa: PLC0415

    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="etl-report-") as scratch:
        if len(os.fsencode(scratch)) > _MOST_PATH_BYTES:
            raise Refused(f"TMPDIR={tempfile.gettempdir()}: too long a path for a socket; set a shorter one")
        manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[scratch]),  # a spec of the user's may be another Python
            transport="ipc",  # sockets in a directory of our own, where TCP ports would be open to every user
            ip=str(Path(scratch) / "kernel"),
            connection_file=str(Path(scratch) / "kernel.json"),
        )
        cells = reads(notebook().read_text(encoding="utf-8"), as_version=4)
        client = NotebookClient(cells, km=manager, resources={"metadata": {"path": scratch}})
        client.owns_km = True  # to be shut down at the end
        environ = {**os.environ, **settings, "PYTHONPATH": path, "IPYTHONDIR": scratch, "JUPYTER_CONFIG_DIR": scratch}
        try:
            client.execute(env=environ)
        except CellExecutionError as error:
            reason = error.evalue if error.ename in (EtlError.__name__, Refused.__name__) else error.ename
            raise EtlError(f"{notebook()}: a cell failed ({reason}); mend the cause and run the report again") from None
        except (OSError, RuntimeError) as error:
            raise EtlError(
                f"python -m etl.report: no kernel ran ({type(error).__name__}); look at TMPDIR's space and rights"
            ) from None
    return [dict(cell) for cell in cells["cells"]]


def _write(path: Path, text: str) -> Path:
    try:
        files.replace(path, text.encode("utf-8"), durable=True)
    except OSError as error:
        raise EtlError(
            f"{path}: cannot be written ({error.strerror}); mend the cause and run the report again"
        ) from None
    return path


@app.command()
def main(
    *,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Write SHARD_DIR/report.html: rows, bytes and keys by shard, pace and windows, with charts.

    Needs the notebooks extra: pip install 'shard-migrate[notebooks]'. Reads the shards and writes that page alone.

    Example: SHARD_DIR=shards python -m etl.report
    """
    stand_in_for_closed_streams()
    startup.raise_at_ctrl_c()  # a kernel and its directory are to be removed
    raise typer.Exit(run(os.environ, Path(".env")))
