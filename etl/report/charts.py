"""Bar and column charts as SVG text, without a library.

Colours differ in lightness, not only in hue, and follow the reader's dark mode. A chart is 400 units wide with text of
13 or 14 units, so that it is legible on a phone without zooming.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

WIDTH = 400
_LINE = 22
_LEFT = 66
_CHARACTER = 7.6
"""The width of a digit, with a margin."""
_NOTE = 17
_PLOT_HEIGHT = 150
_STYLE = """
.chart text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#37414d}
.chart .name{font-size:14px;font-weight:600;fill:#18202a}.chart .quiet{fill:#66717e}
.chart .bar{fill:#3f6fa8}.chart .pale{fill:#a9b6c6}.chart .mark{fill:#8a3b12}
.chart .band{fill:#dfe5ec}
.chart .axis{stroke:#c3cbd5}
@media(prefers-color-scheme:dark){.chart text{fill:#c4ccd6}.chart .name{fill:#eef2f6}.chart .quiet{fill:#8d98a6}
.chart .bar{fill:#6a9fdb}.chart .pale{fill:#566475}.chart .mark{fill:#f3bd96}
.chart .band{fill:#27313d}.chart .axis{stroke:#3c4855}}
"""


@dataclass(frozen=True, slots=True)
class Chart:
    """One SVG picture; a notebook shows it."""

    title: str
    svg: str = field(repr=False)

    def _repr_svg_(self) -> str:
        return self.svg


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, its value, the note at its end, and its colour class."""

    label: str
    value: float
    note: str = ""
    kind: Literal["bar", "pale", "mark"] = "bar"


def bars(
    title: str,
    items: Sequence[Bar],
    *,
    unit: str,
    band: float = 0.0,
    legend: str = "",
) -> Chart:
    """Horizontal bars from zero, to the left where the value is negative, each with its note at the right.

    `band` shades the values from −band to +band and names its ends.
    """
    top = _heading_height(title, legend)
    values = [bar.value for bar in items]
    least, most = min([*values, -band, 0.0]), max([*values, band, 1e-9])
    right = 12 + _CHARACTER * max((len(bar.note) for bar in items), default=0)
    across = (WIDTH - _LEFT - right) / (most - least)
    zero = _LEFT - least * across
    bottom = top + _LINE * len(items)
    parts = []
    if band:
        parts.append(
            f'<rect class="band" x="{zero - band * across:.1f}" y="{top}" width="{2 * band * across:.1f}" '
            f'height="{bottom - top}"/>'
        )
        parts += [
            f'<text class="quiet" x="{zero + value * across:.1f}" y="{bottom + 15}" text-anchor="middle">{name}</text>'
            for value, name in ((-band, f"−{band:g}"), (0.0, "0"), (band, f"+{band:g}"))
        ]
    for index, bar in enumerate(items):
        y = top + index * _LINE
        width = abs(bar.value) * across
        x = zero - width if bar.value < 0 else zero
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect class="{bar.kind}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_LINE - 6}" rx="2">'
            f"<title>{escape(bar.label)}: {escape(bar.note)}</title></rect>"
            f'<text x="{WIDTH - right + 8:.1f}" y="{y + 15}">{escape(bar.note)}</text>'
        )
    parts.append(f'<line class="axis" x1="{zero:.1f}" x2="{zero:.1f}" y1="{top}" y2="{bottom}"/>')
    below = bottom + (_NOTE if band else 0)
    parts.append(_note(unit, below + 5))
    return _chart(title, legend, below + 12 + _NOTE * len(_wrapped(unit)), parts)


def columns(
    title: str,
    heights: Sequence[float],
    *,
    first: str,
    last: str,
    unit: str,
    across: str,
    legend: str = "",
) -> Chart:
    """Vertical columns over an axis from `first` to `last`; gridlines have round numbers."""
    top, left, right = _heading_height(title, legend) + 8, 62, WIDTH - 8
    bottom = top + _PLOT_HEIGHT
    step = _round_step(max([*heights, 1e-9]))
    most = step * math.ceil(max([*heights, step]) / step)
    parts = []
    for tick in range(round(most / step) + 1):
        y = bottom - _PLOT_HEIGHT * tick * step / most
        parts.append(
            f'<line class="axis" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick * step)}</text>'
        )
    width = (right - left) / max(1, len(heights))
    for index, value in enumerate(heights):
        tall = _PLOT_HEIGHT * value / most
        x = left + index * width + min(1.5, width * 0.1)
        parts.append(
            f'<rect class="bar" x="{x:.1f}" y="{bottom - tall:.1f}" height="{tall:.1f}" '
            f'width="{max(0.5, width - min(3, width * 0.2)):.1f}"><title>{value:,.0f} {escape(unit)}</title></rect>'
        )
    parts.append(
        f'<text class="quiet" x="{left}" y="{bottom + 17}">{escape(first)}</text>'
        f'<text class="quiet" x="{right}" y="{bottom + 17}" text-anchor="end">{escape(last)}</text>'
        f"{_note(f'{unit}; {across}', bottom + 24)}"
    )
    return _chart(title, legend, bottom + 34 + _NOTE, parts)


def _chart(title: str, legend: str, height: float, parts: Sequence[str]) -> Chart:
    lines = _wrapped(title)
    heading = "".join(
        f'<text class="name" x="0" y="{15 + 17 * i}">{escape(line)}</text>' for i, line in enumerate(lines)
    )
    if legend:
        heading += _note(legend, 1 + 17 * len(lines))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{escape(title)}" width="480" '
        f'viewBox="0 0 {WIDTH} {height:.0f}"><style>{_STYLE}</style>{heading}{"".join(parts)}</svg>'
    )
    return Chart(title, svg)


def _note(text: str, y: float) -> str:
    """Grey lines of text, the first below `y`."""
    lines = enumerate(_wrapped(text), 1)
    return "".join(f'<text class="quiet" x="0" y="{y + _NOTE * i - 3}">{escape(line)}</text>' for i, line in lines)


def _heading_height(title: str, legend: str) -> int:
    return 17 * len(_wrapped(title)) + (_NOTE * len(_wrapped(legend)) if legend else 0) + 12


def _wrapped(text: str) -> list[str]:
    """The text in lines of about 50 characters, which fit into the width."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > 50:  # noqa: PLR2004 - as the docstring says
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _round_step(most: float) -> float:
    """A step of 1, 2 or 5 times a power of ten, so that `most` has three to seven steps."""
    power = 10.0 ** math.floor(math.log10(most / 3))
    return next(power * factor for factor in (1, 2, 5, 10) if most / (power * factor) <= 6)  # noqa: PLR2004 - as above


def _short(value: float) -> str:
    """A number in a few characters: 1,500,000 is 1.5 M."""
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"
