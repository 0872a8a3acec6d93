"""What an installation contains and needs, and what a package index shows."""

import ast
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.workplace import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
REQUIREMENT = re.compile(r"([\w-]+)>=([\d.]+)")


def test_every_directory_of_modules_is_installed() -> None:
    found = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in (REPOSITORY / "etl").rglob("*.py")}
    assert len(found) > 1
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)
    assert all((REPOSITORY / name.replace(".", "/") / "__init__.py").is_file() for name in found)


def test_every_other_file_of_the_package_is_installed() -> None:
    root = REPOSITORY / "etl"
    others = {path for path in root.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert {"py.typed", "alerts.yml", "dashboard.json"} <= {path.name for path in others}
    assert others == {path for pattern in SETUPTOOLS["package-data"]["etl"] for path in root.glob(pattern)}


def imported(folder: str) -> Iterator[str]:
    """The distributions that the modules of the folder import from."""
    distributions = packages_distributions()
    for path in (REPOSITORY / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    modules = [each.name for each in names]
                case ast.ImportFrom(module=str(module)):
                    modules = [module]
                case _:
                    continue
            for top in {module.partition(".")[0] for module in modules} - {"etl", "tests"} - sys.stdlib_module_names:
                yield from (name.lower().replace("_", "-") for name in distributions[top])


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    declared = {name for name, _ in map(required, PROJECT["dependencies"])}
    assert declared == set(imported("etl"))
    of_tests = {name for name, _ in map(required, PROJECT["optional-dependencies"]["test"])}
    assert set(imported("tests")) <= declared | of_tests


def required(text: str) -> tuple[str, str]:
    """The name and the lower bound of a requirement, which may be an extra of this project."""
    match = REQUIREMENT.match(text)
    return (match[1], match[2]) if match else (text, "")


def test_the_lower_bounds_are_those_that_were_tested() -> None:
    """To test them: pip install -e '.[test]' -c tests/minima.txt in a new environment, then pytest there."""
    pins = (REPOSITORY / "tests" / "minima.txt").read_text(encoding="utf-8").split()
    minima = dict(pin.split("==") for pin in pins)
    bounds = dict(map(required, PROJECT["dependencies"]))
    assert list(minima) == list(bounds)
    for name, bound in bounds.items():
        assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", minima[name]), name


def test_a_package_index_gets_the_readme_without_relative_links(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    setuptools = ModuleType("setuptools")
    monkeypatch.setattr(setuptools, "setup", given.update, raising=False)
    monkeypatch.setitem(sys.modules, "setuptools", setuptools)
    runpy.run_path(str(REPOSITORY / "setup.py"))
    text = given["long_description"]
    assert re.findall(r"\]\((?!https?:)", text) == []
    assert "Operations (`docs/operations.md`) has the whole way" in text
    files = re.findall(r" \(`([^`]+)`\)", text)
    assert all((REPOSITORY / name).exists() for name in files if "/" in name or name.endswith(".md"))


def test_the_workflow_runs_on_each_python_that_the_package_names() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert workflow["jobs"]["all"]["strategy"]["matrix"]["python"] == named
    assert workflow["jobs"]["all"]["steps"][-1] == {"run": ".ci/run"}
