"""A scenario's report as a table for people, and as JSON for programs."""

import json
import os
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.measure import Result
from tests.bench.scenarios import Options, Report, Scenario

_COLUMNS = ("rows", "seconds", "s/M rows", "rows/s", "ratio", "CPU s", "peak MB", "threads", "checked")

_WIDTH = 110
"""The table's width. On a narrower terminal its lines are wrapped, so that no figure is lost."""


def show(console: Console, scenario: Scenario, options: Options, report: Report) -> None:
    """Prints the table, then what was skipped, then more figures."""
    title = f"{scenario}: {options.variant}, medians of {options.runs}, {os.cpu_count()} cores"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), title_justify="left")
    table.add_column("case", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for result in report.results:
        table.add_row(result.name, *_cells(result, report.results[0]))
    console.width = max(console.width, _WIDTH)
    console.print(table)
    for name, reason in report.skipped.items():
        console.print(f"{name}: {reason}, skipped", soft_wrap=True)
    for name, value in report.facts.items():
        console.print(f"{name}: {value:.2f}")


def as_json(scenario: Scenario, options: Options, report: Report) -> str:
    """The same, and the figures of every run."""
    first = report.results[0]
    fields = {
        "scenario": scenario,
        "options": asdict(options),
        "cores": os.cpu_count(),
        "cases": [
            {
                "name": result.name,
                "shards": result.shards,
                "rows": result.rows,
                "wall_s": result.wall_s,
                "s_per_million_rows": result.s_per_million,
                "ratio": ratio(result, first),
                "cpu_s": result.cpu_s,
                "peak_mb": result.peak_mb,
                "threads": result.threads,
                "rows_checked": result.rows_checked,
                "cells_checked": result.cells_checked,
                "runs": [asdict(run) for run in result.runs],
            }
            for result in report.results
        ],
        "skipped": report.skipped,
        "facts": report.facts,
    }
    return json.dumps(fields, ensure_ascii=False, indent=2)


def ratio(result: Result, first: Result) -> float | None:
    """Seconds per row, divided by those of the first case; None if no rows were loaded."""
    if result.s_per_million is None or first.s_per_million is None:
        return None
    return result.s_per_million / first.s_per_million


def _cells(result: Result, first: Result) -> list[str]:
    times = ratio(result, first)
    return [
        f"{result.rows:,}",
        f"{result.wall_s:.2f}",
        "–" if result.s_per_million is None else f"{result.s_per_million:.2f}",
        f"{result.rows / result.wall_s:,.0f}",
        "–" if times is None else f"{times:.2f}",
        f"{result.cpu_s:.2f}",
        f"{result.peak_mb:,.0f}",
        f"{result.threads:,}",
        f"{result.rows_checked:,}",
    ]
