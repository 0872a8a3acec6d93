"""One self-contained HTML page of an executed notebook: no code, no scripts, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt

_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
"""Which a picture needs in a file of its own, and not inside a page."""

_STYLE = """
:root{color-scheme:light dark;--ink:#18202a;--text:#37414d;--quiet:#66717e;--paper:#f3f5f8;--card:#fff;--edge:#dde3ea;
--mark:#3f6fa8}
@media(prefers-color-scheme:dark){:root{--ink:#eef2f6;--text:#c4ccd6;--quiet:#8d98a6;--paper:#0f141a;--card:#182028;
--edge:#2a3542;--mark:#6a9fdb}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--text);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:36px 20px 48px}
header{max-width:720px;margin:0 4px 28px}
h1{font-size:clamp(26px,5vw,36px);line-height:1.15;letter-spacing:-.02em;color:var(--ink);margin:0 0 10px}
h2{font-size:18px;line-height:1.3;color:var(--ink);margin:0 0 8px}
p{margin:0 0 12px}strong{color:var(--ink)}
header p{font-size:17px}header p:first-of-type{color:var(--quiet);font-size:15px}
code{font:.9em ui-monospace,SFMono-Regular,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.cards{columns:2 420px;column-gap:18px}
section{break-inside:avoid;background:var(--card);border:1px solid var(--edge);border-radius:12px;
padding:20px 20px 10px;margin:0 0 18px;font-size:15px}
section>p:first-of-type{margin-bottom:12px}
svg{display:block;width:100%;height:auto;max-width:500px;margin:6px auto 12px}
.table{overflow-x:auto;margin:0 0 12px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--edge);white-space:nowrap}
th{color:var(--quiet);font-weight:600}
pre{overflow-x:auto;font-size:13px}
footer{color:var(--quiet);font-size:13px;margin:12px 4px 0}
@media(max-width:500px){main{padding:20px 8px 28px}section{padding:14px 11px 4px}}
@media print{body{background:#fff}.cards{columns:1}}
"""

Cell = Mapping[str, Any]


def page(cells: Sequence[Cell], *, title: str, footer: str) -> str:
    """The page: what stands before the first `##` is its head, and each `##` begins a card."""
    head: list[str] = []
    cards: list[list[str]] = []
    markdown = MarkdownIt("commonmark", {"html": False})
    for cell in cells:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            if text.startswith("## "):
                cards.append([])
            (cards[-1] if cards else head).append(markdown.render(text))
        elif cell["cell_type"] == "code":
            (cards[-1] if cards else head).extend(_shown(cell["outputs"], markdown))
    sections = "".join(f"<section>{''.join(card)}</section>" for card in cards)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="generator" content="shard-migrate">'  # by which the next report knows the page as its own
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # The browser is told to fetch nothing, so that no later change can make the page call out.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><header>{''.join(head)}</header>"
        f'<div class="cards">{sections}</div><footer>{escape(footer)}</footer></main></body></html>\n'
    )


def _shown(outputs: Sequence[Cell], markdown: MarkdownIt) -> Iterator[str]:
    """Each output in the best of the forms that it came in; what was printed is left out."""
    for output in outputs:
        forms = {kind: "".join(text) for kind, text in output.get("data", {}).items() if isinstance(text, str | list)}
        if "image/svg+xml" in forms:
            yield forms["image/svg+xml"].replace(_NAMESPACE, "")
        elif "text/markdown" in forms:
            yield markdown.render(forms["text/markdown"])
        elif "text/html" in forms:
            yield f'<div class="table">{forms["text/html"]}</div>'
        elif "text/plain" in forms:
            yield f"<pre>{escape(forms['text/plain'])}</pre>"
