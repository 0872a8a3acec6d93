"""python -m etl.report: the page in a browser shows its charts, and its numbers are those of the shards."""

import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from etl.report import command as report
from etl.report import data, html
from tests.browser import MISSING, Browser, browser
from tests.workplace import REPOSITORY, Outcome, Workplace, migrate, shard_files

HEAVY_KEY = "+70009999999"
needs_browser = pytest.mark.skipif(bool(MISSING), reason=f"apt-get install chromium chromium-driver: no {MISSING}")


def make_report(place: Workplace, *, program: str = "", **changes: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, *(["-c", program] if program else ["-m", "etl.report"])],
        cwd=place.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **place.environ(**changes)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Shards of 20,000 generated clients in three runs; one number has 900 rows."""
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


def test_the_page_is_private_and_loads_nothing(reported: Workplace) -> None:
    path = reported.shards / "report.html"
    text = path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not re.search(r"https?:|//\w|src=|href=|url\(|@import|<script", text)
    assert [path.name for path in reported.shards.iterdir() if "report" in path.name] == ["report.html"]
    assert not [*reported.shards.glob("*.db-*")]


def test_no_key_is_in_the_page(reported: Workplace) -> None:
    text = (reported.shards / "report.html").read_text(encoding="utf-8")
    assert "900 · " in text, "the largest key has a bar"
    with closing(sqlite3.connect(reported.source)) as database:
        keys = [key for (key,) in database.execute("SELECT DISTINCT k FROM clients WHERE k IS NOT NULL")]
    assert HEAVY_KEY in keys
    assert not [key for key in keys if key in text or key[1:] in text]


@needs_browser
def test_the_numbers_in_the_page_are_those_of_the_shards(reported: Workplace, page: Browser) -> None:
    titles = page.ask("[...document.querySelector('svg').querySelectorAll('title')].map(t => t.textContent)")
    expected = counts(reported)
    assert [int(re.split("[: ]+", title)[1].replace(",", "")) for title in titles] == expected[:-1]
    text = page.ask("document.body.innerText")
    assert f"record {sum(expected):,} rows of clients in 8 shards" in text
    assert f"{expected[-1]:,} rows with a key that is NULL, empty or blank. They are in shard 7" in text
    assert "the largest key has 900" in text
    assert "windows without gap or overlap" in text
    assert "INN from the window at rowid" in text
    assert "No: less even than chance explains" in text
    assert "inspection" not in text, "no code is shown"


DRAWN = """[...document.querySelectorAll('svg')].map(svg => ({
    title: svg.getAttribute('aria-label'),
    right: svg.getBoundingClientRect().right,
    axis: svg.querySelector('.axis').getBoundingClientRect().x,
    middles: [...svg.querySelectorAll('.bar, .pale, .mark')].map(e => e.getBoundingClientRect())
        .map(b => b.x + b.width / 2),
    bars: [...svg.querySelectorAll('.bar, .pale, .mark')]
        .map(e => e.getBoundingClientRect()).map(b => [b.width, b.height]),
    texts: [...svg.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect().right,
        parseFloat(getComputedStyle(e).fontSize) * svg.getBoundingClientRect().width / 400]),
}))"""
TITLES = [
    "How far is each hash shard from the even share?",
    "What share of the rows has no key?",
    "Is the disk used evenly?",
    "How long did each stage take?",
    "Was the speed of the load constant?",
    "Do a few keys hold many rows?",
]


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
        # The tallest column need not reach the top of its chart.
        assert max(wide * tall for wide, tall in chart["bars"]) > 300
        assert all(right <= chart["right"] + 1 for _, right, _ in chart["texts"]), "no text is cut off"
        assert all(pixels >= 10 for _, _, pixels in chart["texts"]), "every text is legible"
    widths = [wide for wide, _ in charts[0]["bars"]]
    rows = counts(reported)[:7]
    distances = [abs(count - sum(rows) / 7) for count in rows]
    assert [middle > charts[0]["axis"] for middle in charts[0]["middles"]] == [count > sum(rows) / 7 for count in rows]
    assert [wide / max(widths) for wide in widths] == pytest.approx(
        [each / max(distances) for each in distances], abs=0.01
    )
    assert page.ask("document.documentElement.scrollWidth") <= width, "the page does not scroll sideways"
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


def test_a_second_report_replaces_the_first(workplace: Workplace) -> None:
    workplace.populate(300)
    assert migrate(workplace.environ()) == 0
    assert make_report(workplace).code == 0
    workplace.populate(random.Random(4).randrange(50, 90), first=301)
    assert migrate(workplace.environ()) == 0
    assert make_report(workplace).code == 0
    assert f"{sum(counts(workplace)):,} rows" in (workplace.shards / "report.html").read_text(encoding="utf-8")


def test_a_missing_shard_gives_one_line_and_no_page(workplace: Workplace) -> None:
    workplace.populate(300)
    assert migrate(workplace.environ()) == 0
    shard_files(workplace.environ())[1].unlink()
    outcome = make_report(workplace)
    assert (outcome.code, outcome.out) == (1, "")
    assert re.fullmatch(r"error: .*_shard_01\.db: expected shard 1 of 4, found no file; run the .*\n", outcome.err)
    assert not (workplace.shards / "report.html").exists()


NOT_NEEDED = ("IPython", "ipykernel", "jupyter_client", "jupyter_core", "markdown_it", "nbclient", "nbformat", "zmq")


def test_the_report_needs_no_notebook_library(workplace: Workplace) -> None:
    workplace.populate(300)
    assert migrate(workplace.environ()) == 0
    block = f"import sys\nsys.modules.update(dict.fromkeys({NOT_NEEDED}))\n"
    outcome = make_report(workplace, program=f"{block}from etl.report.__main__ import app\napp()")
    assert (outcome.code, outcome.err) == (0, "")
    assert (workplace.shards / "report.html").is_file()


def test_an_unexpected_error_is_one_line(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.populate(300)
    assert migrate(workplace.environ()) == 0
    monkeypatch.setattr(data, "_bytes", lambda path: (workplace.root / path.name).stat().st_size)
    capsys.readouterr()
    assert report.run(workplace.environ()) == 1
    assert capsys.readouterr().err == (
        f"error: {workplace.shards}: the report failed (FileNotFoundError); check that no other program changes the "
        "shards, and run the report again\n"
    )


def test_marks_become_tags_and_everything_else_is_escaped() -> None:
    parts = [html.Markdown("**2 > 1** in `<b>` & more"), html.Markdown()]
    page = html.page(title="<t>", heading="<h>", intro=parts, cards={"<c>": parts}, footer="<f>")
    assert page.count("<p><strong>2 &gt; 1</strong> in <code>&lt;b&gt;</code> &amp; more</p>") == 2
    assert page.count("<p>") == 2
    assert not re.search("<[thcf]>", page)
