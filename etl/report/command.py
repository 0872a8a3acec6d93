"""python -m etl.report: calls the section functions in order and writes their results as one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from etl.core.errors import EtlError
from etl.report import data, html, run_sections, shard_sections
from etl.report.data import Inspection
from etl.report.html import Markdown, Part
from etl.runtime import files, log
from etl.runtime.console import Version, errors_as_lines, print_result
from etl.runtime.options import Application, Given, with_settings
from etl.runtime.settings import load
from etl.runtime.version import VERSION

HEADING = "Are the shards balanced?"
INTRO = Markdown(
    "This report reads the shards of one `SHARD_DIR`: their ledgers, the size of their files, and keys of rows. It "
    "compares no row with the source, and contains no key."
)


@dataclass(frozen=True, slots=True)
class Section:
    """A card of the page: its heading, the functions that fill it, and one line of explanation if it needs one."""

    heading: str
    functions: tuple[Callable[[Inspection], Part], ...]
    explanation: str = ""


SECTIONS = (
    Section("When were all rows last compared with the source?", (run_sections.proof,)),
    Section(
        "Do all hash shards have equally many rows?",
        (shard_sections.rows_verdict, shard_sections.rows_chart, shard_sections.rows_table),
        "A hash distributes rows at random. χ² measures how far the shards are from equal; p is the probability that "
        "chance alone gives at least this χ².",
    ),
    Section("Rows without a key", (shard_sections.reserved_verdict, shard_sections.reserved_chart)),
    Section("Size on disk", (shard_sections.bytes_verdict, shard_sections.bytes_chart)),
    Section(
        "How fast was the load?",
        (run_sections.run_verdict, run_sections.throughput_chart, run_sections.stages_chart),
    ),
    Section("Do some keys have many rows?", (shard_sections.largest_keys_verdict, shard_sections.largest_keys_chart)),
    Section("Is every row in the shard of its key?", (shard_sections.misplaced_verdict,)),
    Section("Do the windows follow each other without gaps?", (run_sections.windows_verdict,)),
    Section("Which columns had cells of an unexpected type?", (run_sections.widened_verdict,)),
)
"""The cards in the order of the page; notebooks/validate_shards.ipynb has the same."""

app = Application()


@errors_as_lines
def run(environ: Mapping[str, str], env_file: Path | None = None) -> int:
    """Writes SHARD_DIR/report.html, readable only by its owner, by the settings of `environ` over `env_file`."""
    settings = load(environ, env_file)
    files.check(settings, files.REPORT)
    shard_dir = settings.SHARD_DIR.absolute()
    try:
        text = _page(data.inspect(shard_dir, settings.TABLE_NAME))
    except EtlError:
        raise
    except Exception as error:  # noqa: BLE001 - an error is one line, never a traceback on the console
        raise EtlError(
            f"{shard_dir}: the report failed ({type(error).__name__}); check that no other program changes the "
            "shards, and run the report again"
        ) from None
    path = files.REPORT.path(shard_dir)
    try:
        files.replace(path, text.encode("utf-8"), durable=True)
    except OSError as error:
        raise EtlError(
            f"{path}: cannot be written ({error.strerror}); correct the cause and run the report again"
        ) from None
    print_result(f"report: {path}")
    return 0


def _page(inspection: Inspection) -> str:
    cards = {
        section.heading: [Markdown(section.explanation), *(function(inspection) for function in section.functions)]
        for section in SECTIONS
    }
    found = inspection.found
    return html.page(
        title=f"Shards of {found.table}",
        heading=HEADING,
        intro=[INTRO, shard_sections.summary(inspection)],
        cards=cards,
        footer=f"{found.directory}, {log.now():%Y-%m-%d %H:%M} UTC, shard-migrate {VERSION}. "
        "No cell of the table is in this page.",
    )


@app.command()
@with_settings
def main(
    *,
    given: Given,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Write SHARD_DIR/report.html: rows, bytes and keys by shard, speed and windows, with charts.

    Reads the shards; writes nothing but this page.

    Example: SHARD_DIR=shards python -m etl.report
    """
    raise typer.Exit(run(given.environ, given.env_file))
