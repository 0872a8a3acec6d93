"""What the README shows is what happens: its commands and their output."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from etl.migrate.command import run_demo
from tests.workplace import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_what_the_demo_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(200_000, tmp_path / "demo") == 0
    shown = re.search(r"```\n( *shards.*?)\n```", README, re.DOTALL)
    assert shown is not None
    printed = capsys.readouterr().out.strip("\n")
    assert _untimed(shown[1]) == _untimed(printed)


def _untimed(text: str) -> list[str]:
    return [re.sub(r"in .* s \(.*\)", "in … s", line).strip() for line in text.splitlines()]


def test_the_readme_routes_as_it_says() -> None:
    examples = doctest.DocTestParser().get_doctest(README.replace("```", ""), {}, "README.md", "README.md", 0)
    assert len(examples.examples) >= 3
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_readmes_commands_install_with_the_constraints() -> None:
    commands = dict(re.findall(r"^- (run|test): `(.*)`$", README, re.MULTILINE))
    assert shlex.split(commands["run"])[-4:] == [".venv/bin/python", "-m", "etl.migrate", "--demo"]
    assert shlex.split(commands["test"])[-2:] == [".venv/bin/pytest", "-q"]
    assert all("-c constraints.txt" in command for command in commands.values())


def pages() -> list[Path]:
    return [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "tests/bench/README.md"]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_a_file_and_to_a_heading_in_it() -> None:
    links = [
        (page, *link) for page in pages() for link in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", page.read_text("utf-8"))
    ]
    assert len(links) > 10
    for page, path, anchor in links:
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {path}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {path}#{anchor}"


def test_each_guarantee_of_the_readme_has_tests() -> None:
    promised = re.findall(r"^- \*\*(.+?)\.\*\*", README.partition("\n## Guarantees\n")[2], re.MULTILINE)
    table = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8").partition("\n| guarantee | tests |\n")[2]
    held = {
        promise: re.findall(r"`(.+?)`", files)
        for promise, files in re.findall(r"^\| ([A-Z].+) \| (`.+) \|$", table, re.MULTILINE)
    }
    assert promised == list(held)
    missing = [name for files in held.values() for name in files if not (REPOSITORY / name).is_file()]
    assert missing == []


def test_the_constraints_name_exact_versions_and_no_addresses() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
