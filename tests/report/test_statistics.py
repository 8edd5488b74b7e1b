"""Intervals, paired tests and Holm's correction against scipy and by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import fisher_exact
from statsmodels.stats.power import TTestPower

from research.report.statistics import (
    holm,
    mean_interval,
    paired_p_value,
    runs_for,
    share_difference,
    share_interval,
    smallest_detectable,
)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_interval_and_p_value_are_those_of_scipy(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.97, 0.01, n), rng.normal(0.96, 0.02, n)
    mean, interval = mean_interval(list(a))
    expected = stats.t.interval(0.95, n - 1, loc=a.mean(), scale=stats.sem(a))
    assert mean == pytest.approx(a.mean(), rel=1e-12)
    assert interval == pytest.approx(expected, rel=1e-12)
    assert paired_p_value(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [3, 5, 30])
@pytest.mark.parametrize("power", [0.5, 0.8])
def test_the_smallest_detectable_difference_is_that_of_statsmodels(n, power):
    differences = np.random.default_rng(n).normal(0.1, 0.7, n)
    size = TTestPower().solve_power(nobs=n, alpha=0.05, power=power)
    expected = size * differences.std(ddof=1)
    assert smallest_detectable(differences, power=power) == pytest.approx(expected, rel=1e-4)


def test_nothing_is_detectable_without_scatter():
    assert smallest_detectable([]) is None
    assert smallest_detectable([0.1]) is None
    assert smallest_detectable([0.1, 0.1]) is None


def test_interval_covers_the_truth_at_its_rate():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        low, high = mean_interval(rng.normal(1.0, 3.0, 4))[1]
        covered += low <= 1.0 <= high
    assert 0.93 < covered / 2000 < 0.97


def test_too_few_values_give_no_interval():
    assert mean_interval([]) == (None, None)
    assert mean_interval([0.5]) == (0.5, None)
    assert paired_p_value([]) is None
    assert paired_p_value([0.1]) is None


def test_without_variance_only_no_difference_has_a_p_value():
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, [0.5, 0.5])
    assert paired_p_value([0.0, 0.0, 0.0]) == 1.0
    assert paired_p_value([25.0, 25.0]) is None
    rounded = [0.3 - 0.2, 0.2 - 0.1, 0.9 - 0.8]
    assert len(set(rounded)) > 1  # one difference, three floats
    assert paired_p_value(rounded) is None


def test_holm_of_a_worked_example():
    # Sorted: 0.005 × 4, 0.01 × 3, 0.03 × 2, 0.04 × 1 (lifted to the one before).
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.6]) == [1.0, 1.0]


def test_holm_rejects_what_closed_testing_with_bonferroni_rejects():
    """Holm is the closure of Bonferroni: the adjusted p is the largest over sets with the arm."""
    p = np.random.default_rng(1).uniform(0, 0.2, 5)
    for i, adjusted in enumerate(holm(p)):
        sets = (s for k in range(1, 6) for s in itertools.combinations(range(5), k) if i in s)
        assert adjusted == pytest.approx(max(min(1, len(s) * p[list(s)].min()) for s in sets))


def test_share_interval_is_wilsons():
    for count, total in ((0, 10), (3, 10), (10, 10), (7, 40)):
        p, z = count / total, 1.959963984540054
        middle = (p + z * z / (2 * total)) / (1 + z * z / total)
        half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2))
        expected = [middle - half, middle + half]
        assert share_interval(count, total) == pytest.approx(expected, abs=1e-9)


def test_runs_that_would_decide_are_the_fewest():
    found = runs_for(0.2, 0.25)
    widths = {n: np.ptp(share_interval(0.25 * n, n)) for n in (found - 1, found)}
    assert widths[found] < 0.2 <= widths[found - 1]
    assert found == pytest.approx(0.25 * 0.75 * (2 * 1.96 / 0.2) ** 2, rel=0.05)  # Wald's
    two = runs_for(0.2, 0.25, 0.5)
    assert two == pytest.approx((0.25 * 0.75 + 0.5**2) * (2 * 1.96 / 0.2) ** 2, rel=0.05)


def test_share_difference_is_newcombes():
    """Newcombe 1998, table II, method 10: 56/70 against 48/80, and 10/10 against 0/10."""
    difference, interval, p = share_difference(56, 70, 48, 80)
    assert difference == pytest.approx(0.2)
    assert interval == pytest.approx([0.0524, 0.3339], abs=5e-5)
    assert p == pytest.approx(fisher_exact([[56, 14], [48, 32]]).pvalue)
    assert share_difference(10, 10, 0, 10)[1] == pytest.approx([0.6075, 1.0], abs=5e-5)
    assert share_difference(0, 10, 0, 10)[0] == 0
