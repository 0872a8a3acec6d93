"""python -m etl.report: one page, opened in a browser, its charts drawn and its numbers those of the shards."""

import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from etl.report import command as report
from tests.browser import MISSING, Browser, browser
from tests.workplace import REPOSITORY, Outcome, Workplace, migrate, shard_files

HEAVY_KEY = "+70009999999"
needs_extra = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("nbclient", "ipykernel")),
    reason="the notebooks extra is not installed: pip install '.[notebooks]'",
)
needs_browser = pytest.mark.skipif(bool(MISSING), reason=f"apt-get install chromium chromium-driver: no {MISSING}")


def make_report(place: Workplace, **changes: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "etl.report"],
        cwd=place.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **place.environ(**changes)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Shards of 20,000 invented clients, of whom one number has 900, in three runs."""
    place = Workplace(tmp_path_factory.mktemp("report"))
    place.populate(12_000, seed=5)
    environ = place.environ(NUM_SHARDS=7, RESERVED_SHARD=7, BATCH_SIZE=700)
    assert migrate(environ) == 0
    place.populate(7_100, first=12_001, seed=6)
    assert migrate(environ) == 0
    place.script(
        f"INSERT INTO clients (k, INN) SELECT '{HEAVY_KEY}', CAST('ff' AS BLOB) FROM clients LIMIT 900",
    )
    assert migrate(environ) == 0
    outcome = make_report(place, NUM_SHARDS="7", RESERVED_SHARD="7")
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == f"report: {place.shards / 'report.html'}"
    assert outcome.err == ""
    return place


@pytest.fixture(scope="module")
def page(reported: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        opened.open(reported.shards / "report.html")
        yield opened


def counts(place: Workplace) -> list[int]:
    found = []
    for path in shard_files(place.environ()):
        with closing(sqlite3.connect(path)) as database:
            found.append(database.execute("SELECT count(*) FROM clients").fetchone()[0])
    return found


@needs_extra
def test_the_page_is_its_owners_alone_and_fetches_nothing(reported: Workplace) -> None:
    path = reported.shards / "report.html"
    text = path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not re.search(r"https?:|//\w|src=|href=|url\(|@import|<script", text)
    assert [path.name for path in reported.shards.iterdir() if "report" in path.name] == ["report.html"]


@needs_extra
def test_no_key_is_in_the_page(reported: Workplace) -> None:
    text = (reported.shards / "report.html").read_text(encoding="utf-8")
    assert "900 · " in text, "the heavy key has its bar"
    with closing(sqlite3.connect(reported.source)) as database:
        keys = [key for (key,) in database.execute("SELECT DISTINCT k FROM clients WHERE k IS NOT NULL")]
    assert HEAVY_KEY in keys
    assert not [key for key in keys if key in text or key[1:] in text]


@needs_extra
@needs_browser
def test_the_numbers_in_the_page_are_those_of_the_shards(reported: Workplace, page: Browser) -> None:
    rows = page.ask("[...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.innerText))")
    expected = counts(reported)
    assert [(int(row[0]), int(row[1].replace(",", ""))) for row in rows] == list(enumerate(expected))
    text = page.ask("document.body.innerText")
    assert f"{sum(expected):,} rows of clients are in 8 shards" in text
    assert f"{expected[-1]:,} rows whose key is NULL, empty or blank are in shard 7" in text
    assert "the heaviest key has 900" in text
    assert "windows follow each other without gap or overlap" in text
    assert "INN from the window at rowid" in text
    assert "No: more uneven than chance explains" in text
    assert "findings" not in text, "no cell of code is shown"


DRAWN = """[...document.querySelectorAll('svg')].map(svg => ({
    title: svg.getAttribute('aria-label'),
    right: svg.getBoundingClientRect().right,
    bars: [...svg.querySelectorAll('.bar, .pale, .mark')]
        .map(e => e.getBoundingClientRect()).map(b => [b.width, b.height]),
    texts: [...svg.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect().right,
        parseFloat(getComputedStyle(e).fontSize) * svg.getBoundingClientRect().width / 400]),
}))"""
TITLES = [
    "Has every hash shard the same number of rows?",
    "What share of the rows has no key?",
    "Do a few keys hold many rows?",
    "Is the disk used evenly?",
    "Did the load keep its pace?",
    "Where did the time go?",
]


@needs_extra
@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360], ids=["desktop", "phone"])
def test_the_charts_are_drawn(reported: Workplace, page: Browser, tmp_path: Path, *, width: int, dark: bool) -> None:
    page.resize(width=width, height=900, dark=dark)
    charts = page.ask(DRAWN)
    assert [chart["title"] for chart in charts] == TITLES
    for chart in charts:
        assert len(chart["bars"]) >= 2
        assert all(wide > 0 and tall > 0 for wide, tall in chart["bars"] if chart["title"] != TITLES[4]), chart
        assert max(wide * tall for wide, tall in chart["bars"]) > 500
        assert all(right <= chart["right"] + 1 for _, right, _ in chart["texts"]), "no text is cut off"
        assert all(pixels >= 10 for _, _, pixels in chart["texts"]), "every text is legible"
    widths = [wide for wide, _ in charts[0]["bars"]]
    rows = counts(reported)[:7]
    assert [wide / max(widths) for wide in widths] == pytest.approx([count / max(rows) for count in rows], abs=0.01)
    assert page.ask("document.documentElement.scrollWidth") <= width, "nothing is to be scrolled sideways"
    assert page.ask("performance.getEntriesByType('resource').length") == 0
    paper, ink = (
        _lightness(page.ask(f"getComputedStyle(document.body).{name}")) for name in ("backgroundColor", "color")
    )
    assert (paper < 60 and ink > 150) if dark else (paper > 220 and ink < 100)
    page.screenshot(tmp_path / f"report-{width}-{'dark' if dark else 'light'}.png")
    assert (tmp_path / f"report-{width}-{'dark' if dark else 'light'}.png").stat().st_size > 20_000


def _lightness(color: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", color)[:3])
    return 0.3 * red + 0.6 * green + 0.1 * blue


@needs_extra
def test_a_second_report_replaces_the_first(workplace: Workplace) -> None:
    workplace.populate(300)
    assert migrate(workplace.environ()) == 0
    assert make_report(workplace).code == 0
    workplace.populate(random.Random(4).randrange(50, 90), first=301)
    assert migrate(workplace.environ()) == 0
    assert make_report(workplace).code == 0
    assert f"{sum(counts(workplace)):,} rows" in (workplace.shards / "report.html").read_text(encoding="utf-8")


@needs_extra
def test_a_lost_shard_ends_in_one_line_and_no_page(workplace: Workplace) -> None:
    workplace.populate(300)
    assert migrate(workplace.environ()) == 0
    shard_files(workplace.environ())[1].unlink()
    outcome = make_report(workplace)
    assert (outcome.code, outcome.out) == (1, "")
    assert re.fullmatch(r"error: .*_shard_01\.db: expected shard 1 of 4, found no file; run the .*\n", outcome.err)
    assert not (workplace.shards / "report.html").exists()


@needs_extra
def test_a_temporary_directory_too_deep_for_sockets_is_refused(workplace: Workplace) -> None:
    workplace.populate(30)
    assert migrate(workplace.environ()) == 0
    deep = workplace.root / ("d" * 90)
    deep.mkdir()
    outcome = make_report(workplace, TMPDIR=str(deep))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"error: TMPDIR={deep}: too long a path for a socket; set a shorter one\n"


def test_without_the_extra_one_line_says_what_to_install(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "_NEEDED", ("nbclient_that_is_not_there",))
    assert report.run(workplace.environ()) == 2
    assert capsys.readouterr().err == (
        "error: python -m etl.report: expected the notebooks extra, found no nbclient_that_is_not_there; run "
        "pip install 'shard-migrate[notebooks]', or pip install '.[notebooks]' in a checkout\n"
    )


def test_the_notebook_is_where_a_report_looks_for_it() -> None:
    assert report.notebook() == REPOSITORY / "notebooks" / "validate_shards.ipynb"
    assert report.notebook().is_file()
