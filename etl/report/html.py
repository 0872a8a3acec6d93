"""The report as one HTML page, with its paragraphs and tables. The page loads no other file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import polars as pl

from etl.report.charts import Chart

_SVG_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
"""Needed in a separate SVG file, not inside a page."""
_MARKUP = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*")

_STYLE = """
:root{color-scheme:light dark;--ink:#18202a;--text:#37414d;--quiet:#66717e;--paper:#f3f5f8;--card:#fff;--edge:#dde3ea;
--mark:#3f6fa8}
@media(prefers-color-scheme:dark){:root{--ink:#eef2f6;--text:#c4ccd6;--quiet:#8d98a6;--paper:#0f141a;--card:#182028;
--edge:#2a3542;--mark:#6a9fdb}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--text);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:36px 20px 48px}
header{max-width:720px;margin:0 4px 28px}
h1{font-size:clamp(26px,5vw,36px);line-height:1.15;letter-spacing:-.02em;color:var(--ink);margin:0 0 10px}
h2{font-size:18px;line-height:1.3;color:var(--ink);margin:0 0 8px}
p{margin:0 0 12px}strong{color:var(--ink)}
header p{font-size:17px}header p:first-of-type{color:var(--quiet);font-size:15px}
code{font:.9em ui-monospace,SFMono-Regular,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
section{break-inside:avoid;background:var(--card);border:1px solid var(--edge);border-radius:12px;
padding:20px 20px 10px;font-size:15px;flex:1 1 420px;min-width:0}
.cards{display:flex;flex-wrap:wrap;gap:18px}.drawn{flex-basis:100%}section>div{max-width:720px}
svg{display:block;width:100%;height:auto;max-width:500px;margin:0 auto 12px}
@media(min-width:820px){.drawn{display:grid;grid-template-columns:minmax(0,1fr) 500px;column-gap:40px}}
.table{overflow-x:auto;margin:0 0 12px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--edge);white-space:nowrap}
th{color:var(--quiet);font-weight:600}
footer{color:var(--quiet);font-size:13px;margin:30px 4px 0}
@media(max-width:500px){main{padding:20px 8px 28px}section{padding:14px 11px 4px;flex-basis:100%}}
@media print{body{background:#fff}}
"""


class Markdown(str):
    """A paragraph with the two marks `**bold**` and `` `code` ``; a notebook shows it formatted."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True, repr=False)
class HtmlTable:
    """A table of numbers; a notebook shows it as HTML."""

    frame: pl.DataFrame

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.frame.columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in self.frame.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def __repr__(self) -> str:
        return repr(self.frame)


Part = Markdown | HtmlTable | Chart


def page(*, title: str, heading: str, intro: Sequence[Part], cards: Mapping[str, Sequence[Part]], footer: str) -> str:
    """The whole page as text; `cards` are its parts with a border, by heading."""
    sections = "".join(_card(name, parts) for name, parts in cards.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="generator" content="shard-migrate">'  # the next report recognises its own file by this
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # The browser refuses every request, so that no later change can make the page load something.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<header><h1>{escape(heading)}</h1>{_html(intro)}</header>"
        f'<div class="cards">{sections}</div><footer>{escape(footer)}</footer></main></body></html>\n'
    )


def _card(heading: str, parts: Sequence[Part]) -> str:
    """On a wide screen the first chart stands beside all other parts, on a phone below them."""
    chart = next((part for part in parts if isinstance(part, Chart)), None)
    left = f"<div><h2>{escape(heading)}</h2>{_html([part for part in parts if part is not chart])}</div>"
    return (
        f'<section class="drawn">{left}<div>{_part(chart)}</div></section>' if chart else f"<section>{left}</section>"
    )


def _html(parts: Sequence[Part]) -> str:
    return "".join(_part(part) for part in parts)


def _part(part: Part) -> str:
    match part:
        case Chart():
            return part.svg.replace(_SVG_NAMESPACE, "")
        case HtmlTable():
            return f'<div class="table">{part._repr_html_()}</div>'
    return f"<p>{_MARKUP.sub(_marked, escape(part))}</p>\n" if part else ""


def _marked(match: re.Match[str]) -> str:
    code, bold = match.groups()
    return f"<code>{code}</code>" if code else f"<strong>{bold}</strong>"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
