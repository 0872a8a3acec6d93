"""The χ² test for the balance of shards, and gaps and overlaps of windows. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from etl.core.model import RowidRange

UNLIKELY = 0.01
"""A smaller p-value counts as uneven; by chance alone that happens once in 100 tables."""

_PRECISION = 1e-15
_MAX_TERMS = 10_000


@dataclass(frozen=True, slots=True)
class Fit:
    """Pearson's χ² of counts against an even share."""

    statistic: float
    freedom: int
    """Degrees of freedom: the mean of χ²; its standard deviation is √(2 · freedom)."""
    p_value: float
    """The probability that chance alone gives a χ² at least as large."""

    @property
    def is_even(self) -> bool:
        return self.p_value >= UNLIKELY


def fit(counts: Sequence[int]) -> Fit:
    """The χ² test of counts that should be equal; without rows, or with one shard, p is 1."""
    share, freedom = sum(counts) / max(1, len(counts)), max(0, len(counts) - 1)
    if not share or not freedom:
        return Fit(0.0, freedom, 1.0)
    statistic = math.fsum((count - share) ** 2 / share for count in counts)
    return Fit(statistic, freedom, upper_gamma(freedom / 2, statistic / 2))


def deviations(counts: Sequence[int]) -> list[float]:
    """Each count's distance from the even share, in standard deviations of a multinomial count."""
    share = sum(counts) / max(1, len(counts))
    sigma = standard_deviation(counts)
    return [(count - share) / sigma if sigma else 0.0 for count in counts]


def standard_deviation(counts: Sequence[int]) -> float:
    """The standard deviation of one shard's rows: √(n · (1/k) · (1 − 1/k)) for n rows in k shards."""
    return math.sqrt(sum(counts) / len(counts) * (1 - 1 / len(counts))) if counts else 0.0


def upper_gamma(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function Q(a, x), for a > 0 and x ≥ 0.

    For x < a + 1 by the series of 1 − Q (DLMF 8.7.1 with 8.2.4), otherwise by Legendre's continued fraction
    (DLMF 8.9.2) with Lentz's algorithm. The p-value of χ² with k degrees of freedom is Q(k/2, χ²/2).
    """
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, _MAX_TERMS):
            term *= x / (a + n)
            total += term
            if term < total * _PRECISION:
                break
        return max(0.0, 1 - total * scale)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    fraction = d
    for n in range(1, _MAX_TERMS):
        numerator = -n * (n - a)
        b += 2
        d = 1 / (numerator * d + b or tiny)
        c = b + numerator / c or tiny
        fraction *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return scale * fraction


def gaps_and_overlaps(windows: Iterable[RowidRange]) -> tuple[list[RowidRange], list[RowidRange]]:
    """The rowids between two windows that are in no window, and those that are in more than one; in any order."""
    gaps, overlaps = [], []
    reached: int | None = None
    for window in sorted(windows):
        if reached is not None and window.first_rowid > reached + 1:
            gaps.append(RowidRange(reached + 1, window.first_rowid - 1))
        if reached is not None and window.first_rowid <= reached:
            overlaps.append(RowidRange(window.first_rowid, min(reached, window.last_rowid)))
        reached = window.last_rowid if reached is None else max(reached, window.last_rowid)
    return gaps, overlaps
