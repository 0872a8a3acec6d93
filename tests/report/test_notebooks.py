"""The committed notebooks show what their cells give today, run on the demo."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from etl.migrate.command import run_demo
from etl.report.exhibits import Words
from tests.workplace import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
MEASURED = ("run_verdict", "throughput_chart", "stages_chart", "bytes_chart")
"""What depends on the machine to the last digit: their cells are run, and their outputs not compared."""


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def executed(source: str, names: dict[str, object]) -> object:
    """Runs a cell; the value of its last line, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)  # noqa: S102 - a document's code is run as it stands
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None  # type: ignore[attr-defined]  # noqa: S307 - as above; an Expr


def shown(cell: dict[str, Any], kind: str) -> str:
    return "".join(text for output in cell["outputs"] for text in output["data"].get(kind, ""))


@pytest.fixture(scope="module")
def demo_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    demo = tmp_path_factory.mktemp("demo") / "demo"
    assert run_demo(200_000, demo) == 0
    return demo / "shards"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_its_cells_give_on_the_demo(
    path: Path, demo_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARD_DIR", str(demo_shards))
    names: dict[str, object] = {}
    compared = 0
    for cell in code_cells(path):
        source = "".join(cell["source"])
        value = executed(source, names)
        if value is None or any(name in source for name in MEASURED):
            continue
        if isinstance(value, Words):
            assert shown(cell, "text/markdown") == str(value)
        elif hasattr(value, "_repr_svg_"):
            assert shown(cell, "image/svg+xml") == str(value)
        elif isinstance(value, list | dict | int):
            assert shown(cell, "text/plain").split() == repr(value).split()
        else:
            assert shown(cell, "text/plain").split() == str(value).split()
        compared += 1
    assert compared >= 6


def test_the_notebooks_are_committed_as_they_ran_from_top_to_bottom() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["explore_shards", "validate_shards"]
    for path in NOTEBOOKS:
        cells = code_cells(path)
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        assert all(output["output_type"] == "execute_result" for cell in cells for output in cell["outputs"])
        assert "/home" not in path.read_text(encoding="utf-8")
