"""Statistics over seeds: Student t intervals, paired differences, Holm's correction."""

import bisect
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import nctdtrinc, stdtr, stdtrit  # scipy.stats takes a second more to import


def mean_interval(
    values: Sequence[float], confidence: float = 0.95
) -> tuple[float | None, list[float] | None]:
    """Compute the mean of `values` and its Student t interval `[low, high]`.

    The interval is None for fewer than two values, and the mean too for none at all. Equal values
    give an interval of width zero.
    """
    if not len(values):
        return None, None
    mean, error = _mean_and_error(values)
    if error is None:
        return mean, None
    return mean, t_interval(mean, error, len(values) - 1, confidence)


def t_interval(mean: float, error: float, freedom: float, confidence: float = 0.95) -> list[float]:
    """Compute the Student t interval `[low, high]` from an estimate and its standard error."""
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return [mean - half, mean + half]


def t_p_value(t: float, freedom: float) -> float:
    """Two-sided p-value of a Student t statistic."""
    return float(2 * stdtr(freedom, -abs(t)))


def paired_p_value(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of the paired t test that the mean of `differences` is zero.

    None for fewer than two differences, and where all are one constant other than zero: scores out
    of a few hundred images often agree by chance, which no test on them can tell from certainty.
    1.0 if all are zero.
    """
    if len(differences) < 2:
        return None
    mean, error = _mean_and_error(differences)
    if error == 0.0:
        return 1.0 if mean == 0.0 else None
    return t_p_value(mean / error, len(differences) - 1)


def smallest_detectable(
    differences: Sequence[float], *, power: float = 0.8, confidence: float = 0.95
) -> float | None:
    """The smallest true difference that a paired t test on so many, so scattered differences would
    find with that `power`, two-sided: what "no difference seen" leaves open.

    None for fewer than two differences, or where all are equal.

    References:
        Cohen, "Statistical power analysis for the behavioral sciences" (1988), §2.3.
    """
    error = _mean_and_error(differences)[1] if len(differences) else None
    if not error:
        return None
    freedom = len(differences) - 1
    critical = stdtrit(freedom, (1 + confidence) / 2)
    # The tail on the other side holds less than 1e-4 of the chance.
    return float(nctdtrinc(freedom, 1 - power, critical)) * error


def seeds_for(differences: Sequence[float], width: float, *, confidence: float = 0.95) -> int:
    """The fewest seeds with which, at the scatter of `differences`, the Student t interval of their
    mean is narrower than `width`: it then cannot hold both 0 and an effect of that size.

    References:
        Cochran, "Sampling techniques" (1977), §4.4.
    """
    array = np.asarray(differences, np.float64)
    tail, deviation = (1 + confidence) / 2, float(array.std(ddof=1))
    seeds = np.arange(2, 2 + 100_000)
    widths = 2 * stdtrit(seeds - 1, tail) * deviation / np.sqrt(seeds)
    return int(seeds[np.argmax(widths < width)])


def share_interval(count: float, total: int) -> list[float]:
    """Compute the 95 % interval `[low, high]` of a share, after Wilson (1927)."""
    from statsmodels.stats.proportion import proportion_confint  # a second to import

    return [float(bound) for bound in proportion_confint(count, total, method="wilson")]


def share_difference(
    count: int, total: int, count0: int, total0: int
) -> tuple[float, list[float], float]:
    """Compare two independent shares: their difference, its 95 % interval, and a p-value.

    References:
        Newcombe, "Interval estimation for the difference between independent proportions",
        Statistics in Medicine 17 (1998), method 10; the p-value is of Fisher's exact test.
    """
    from scipy.stats import fisher_exact

    table = [[count, total - count], [count0, total0 - count0]]
    interval = _newcombe(count, total, count0, total0)
    return count / total - count0 / total0, interval, float(fisher_exact(table).pvalue)


def _newcombe(count: float, total: int, count0: float, total0: int) -> list[float]:
    from statsmodels.stats.proportion import confint_proportions_2indep

    bounds = confint_proportions_2indep(
        count, total, count0, total0, method="newcomb", compare="diff"
    )
    return [float(bound) for bound in bounds]


def runs_for(width: float, share: float, other: float | None = None) -> int:
    """The fewest runs of an arm with which the 95 % interval of a share, or of the difference of
    two, is narrower than `width`, at the shares that were seen.
    """

    def narrow(runs: int) -> bool:
        if other is None:
            low, high = share_interval(share * runs, runs)
        else:
            low, high = _newcombe(share * runs, runs, other * runs, runs)
        return high - low < width

    return 1 + bisect.bisect_left(range(1, 100_000), True, key=narrow)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of comparisons; the order is kept.

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6 (1979): the k-th smallest of m is multiplied by m - k + 1, made monotone.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error; the error is None for one value, exactly 0.0 for equal ones."""
    array = np.asarray(values, np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return mean, None
    # 0.3 - 0.2 and 0.2 - 0.1 are equal differences, though not to the last bit.
    if np.ptp(array) <= 1e-14 * max(1.0, np.abs(array).max()):
        return (mean if abs(mean) > 1e-14 else 0.0), 0.0
    return mean, float(array.std(ddof=1)) / math.sqrt(len(array))
