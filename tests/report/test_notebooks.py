"""The committed notebooks run from top to bottom, and their outputs are those of the demo.

To write the outputs again: `python -m etl.migrate --demo 200000`, then `jupyter execute --inplace notebooks/*.ipynb`.
"""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from etl.migrate.command import run_demo
from etl.report import command
from tests.workplace import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
MEASURED = ("run_verdict", "throughput_chart", "stages_chart", "bytes_chart")
"""Functions whose results depend on the machine: their cells run, and only the kinds of their outputs are compared."""


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def cells(notebook: Any, kind: str) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def outputs(cell: Any) -> list[tuple[str, object]]:
    is_measured = any(name in cell["source"] for name in MEASURED)
    return [
        (output["output_type"], sorted(output["data"]) if is_measured else output["data"]) for output in cell["outputs"]
    ]


@pytest.fixture(scope="module")
def demo_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    demo = tmp_path_factory.mktemp("demo") / "demo"
    assert run_demo(200_000, demo) == 0
    return demo / "shards"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_the_outputs_of_the_demo(
    path: Path, demo_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path))  # no file of the user
    executed = read(path)
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "SHARD_DIR": str(demo_shards)}
    NotebookClient(executed, resources={"metadata": {"path": str(tmp_path)}}).execute(env=environ)
    for committed, now in zip(cells(read(path), "code"), cells(executed, "code"), strict=True):
        assert outputs(now) == outputs(committed), committed["source"]


def test_the_notebooks_are_committed_as_they_ran_from_top_to_bottom() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["explore_shards", "validate_shards"]
    for path in NOTEBOOKS:
        code = cells(read(path), "code")
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        assert all(output["output_type"] == "execute_result" for cell in code for output in cell["outputs"])
        assert sum(bool(cell["outputs"]) for cell in code) >= 6
        assert "/home" not in path.read_text(encoding="utf-8")


def test_the_page_and_its_notebook_have_the_same_sections() -> None:
    notebook = read(REPOSITORY / "notebooks" / "validate_shards.ipynb")
    expected = [f"# {command.HEADING}\n\n{command.INTRO}"]
    expected += [f"## {each.heading}\n\n{each.explanation}".strip() for each in command.SECTIONS]
    assert [cell["source"] for cell in cells(notebook, "markdown")] == expected
    functions = [function for each in command.SECTIONS for function in each.functions]
    calls = [f"{function.__module__.rpartition('.')[2]}.{function.__name__}(inspection)" for function in functions]
    assert [cell["source"] for cell in cells(notebook, "code")[1:]] == calls
