"""The χ² test is compared with closed forms and printed tables, gaps and overlaps with a slow count."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.core.model import RowidRange
from etl.report import statistics

# Critical values of χ² as printed in every table: freedom, p, χ².
PRINTED = [
    *((1, 0.05, 3.841), (1, 0.01, 6.635), (5, 0.95, 1.145), (9, 0.05, 16.919), (9, 0.5, 8.343), (10, 0.001, 29.588)),
    *((30, 0.05, 43.773), (100, 0.05, 124.342), (100, 0.99, 70.065)),
]


@pytest.mark.parametrize(("freedom", "p_value", "statistic"), PRINTED)
def test_p_values_are_those_of_printed_tables(freedom: int, p_value: float, statistic: float) -> None:
    assert statistics.upper_gamma(freedom / 2, statistic / 2) == pytest.approx(p_value, rel=0.002)


@given(st.integers(1, 2048), st.floats(0.001, 3))
def test_p_values_of_even_freedom_equal_the_closed_form(half: int, relative: float) -> None:
    x = half * relative
    logs = [j * math.log(x) - x - math.lgamma(j + 1) for j in range(half)]
    assert statistics.upper_gamma(half, x) == pytest.approx(math.fsum(map(math.exp, logs)), rel=1e-9, abs=1e-12)


def test_p_values_of_one_degree_equal_the_normal_distribution() -> None:
    for x in (0.0, 0.1, 1.0, 4.0, 40.0):
        assert statistics.upper_gamma(0.5, x) == pytest.approx(math.erfc(math.sqrt(x)), rel=1e-12)


def test_fair_dice_are_found_even_and_loaded_ones_are_not() -> None:
    dice = random.Random(11)
    verdicts = []
    for _ in range(200):
        throws = [dice.randrange(10) for _ in range(2000)]
        verdicts.append(statistics.fit([throws.count(face) for face in range(10)]))
    assert sum(not each.is_even for each in verdicts) <= 8  # 2 are expected
    assert 0.4 < sum(each.p_value for each in verdicts) / 200 < 0.6, "p is uniform under fair dice"
    assert not statistics.fit([300, 200, 200, 200, 200]).is_even


def test_the_statistic_and_the_deviations_are_those_computed_by_hand() -> None:
    found = statistics.fit([10, 20, 30])
    assert (found.statistic, found.freedom) == (10.0, 2)
    assert found.p_value == pytest.approx(math.exp(-5))
    assert statistics.deviations([10, 20, 30]) == pytest.approx([-10 / math.sqrt(40 / 3), 0, 10 / math.sqrt(40 / 3)])


@pytest.mark.parametrize("counts", [[], [0, 0], [7]], ids=["no shard", "no rows", "one shard"])
def test_nothing_to_compare_is_even(counts: list[int]) -> None:
    assert statistics.fit(counts).p_value == 1.0
    assert all(z == 0 for z in statistics.deviations(counts))


@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 6)), max_size=12))
def test_gaps_and_overlaps_equal_a_count_of_every_rowid(pairs: list[tuple[int, int]]) -> None:
    windows = [RowidRange(first, first + more) for first, more in pairs]
    gaps, overlaps = statistics.gaps_and_overlaps(windows)
    times = [sum(window.first_rowid <= rowid <= window.last_rowid for window in windows) for rowid in range(-25, 35)]
    held = [index for index, count in enumerate(times) if count]
    missing = {i - 25 for i in range(held[0], held[-1]) if not times[i]} if held else set()
    twice = {i - 25 for i, count in enumerate(times) if count > 1}
    assert _rowids(gaps) == missing
    assert _rowids(overlaps) == twice


def _rowids(ranges: list[RowidRange]) -> set[int]:
    return {rowid for each in ranges for rowid in range(each.first_rowid, each.last_rowid + 1)}
