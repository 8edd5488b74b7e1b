"""Main effects and interactions of a factorial design, with intervals.

A linear model with treatment contrasts, fitted by ordinary least squares: one coefficient for every
level of a factor but the baseline's, and one for every product of such levels of several factors.
A coefficient is what a level does where all else is at the baseline; averaged over the levels of
the other factors it is the effect that analyses of variance speak of. Both are reported. Standard
errors are robust to cells of unequal variance (HC2: MacKinnon & White 1985), as cells are where
some train and some do not, and each contrast has the degrees of freedom of the cells that it rests
on (Satterthwaite 1946): a difference of two cells is Welch's t test. Seeds count as independent.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from research.report.design import Design
from research.report.statistics import holm, t_interval, t_p_value


def effects(
    values: Mapping[str, Mapping[str, float | None]], design: Design
) -> list[dict[str, Any]] | None:
    """Estimate every effect of a design of two or more factors without axes.

    Args:
        values: arm → seed → the metric.
        design: the factors that the arms cross.

    Returns:
        For each effect, from main effects to the interaction of all: `levels` (field → level),
        `mean`, `ci95`, `p` and `p_holm` averaged over the other factors, and `at_baseline` with
        `mean` and `ci95` where they are at their baseline. None where there are axes or a single
        factor, or where a cell has fewer than two values.
    """
    if design.axes or len(design.names) < 2 or design.baseline not in values:
        return None
    fields = design.names
    levels = [design.levels(field) for field in fields]
    cells = list(itertools.product(*levels))
    observed = [_known(values.get(design.find(cell, ()) or "", {})) for cell in cells]
    if min(map(len, observed)) < 2:
        return None

    from statsmodels.regression.linear_model import OLS  # a second to import

    terms = cells  # a term is named by a cell: it holds the levels that are not the baseline's
    first = [own[0] for own in levels]
    # Cell × term: 1 where the cell has every level that the term names.
    coding = np.array(
        [
            [all(t in (f, c) for t, f, c in zip(term, first, cell, strict=True)) for term in terms]
            for cell in cells
        ],
        float,
    )
    rows = np.repeat(coding, [len(own) for own in observed], axis=0)
    fit = OLS(np.concatenate(observed), rows).fit(cov_type="HC2")
    sizes = np.array([len(own) for own in observed])
    noise = np.array([np.var(own, ddof=1) for own in observed]) / sizes  # of each cell's mean

    def contrast(cell_weights: np.ndarray) -> dict[str, Any]:
        """Estimate a weighted sum of cells; no test where its cells do not vary at all."""
        weights = cell_weights @ coding  # of the coefficients
        mean = float(weights @ fit.params)
        error = float(np.sqrt(weights @ fit.cov_params() @ weights))
        if error <= 1e-12 * max(1.0, abs(mean)):
            return {"mean": mean, "ci95": None, "p": None}
        parts = cell_weights**2 * noise
        freedom = float(parts.sum() ** 2 / (parts**2 / (sizes - 1)).sum())
        interval = t_interval(mean, error, freedom)
        return {"mean": mean, "ci95": interval, "p": t_p_value(mean / error, freedom)}

    found = []
    in_order = itertools.chain.from_iterable(  # main effects, then pairs, then triples
        itertools.product(*(own[1:] if i in chosen else own[:1] for i, own in enumerate(levels)))
        for size in range(1, len(fields) + 1)
        for chosen in itertools.combinations(range(len(fields)), size)
    )
    for term in in_order:
        averaged = contrast(_weights(term, first, levels, cells))
        alone = [[own[0]] if t == own[0] else own for t, own in zip(term, levels, strict=True)]
        at_baseline = contrast(_weights(term, first, alone, cells))
        named = {f: t for f, t, b in zip(fields, term, first, strict=True) if t != b}
        found.append(
            {"levels": named, **averaged, "p_holm": None}
            | {"at_baseline": {key: at_baseline[key] for key in ("mean", "ci95")}}
        )
    tested = [effect for effect in found if effect["p"] is not None]
    for effect, p_holm in zip(tested, holm([e["p"] for e in tested]), strict=True):
        effect["p_holm"] = p_holm
    return found


def _weights(term, first, levels, cells) -> np.ndarray:
    """Weigh the cells: differences along the factors of the term, means over `levels` of others."""

    def weight(level, baseline, own, at):
        if level == baseline:
            return float(at in own) / len(own)
        return float(at == level) - float(at == baseline)

    return np.array(
        [
            np.prod([weight(*factor) for factor in zip(term, first, levels, cell, strict=True)])
            for cell in cells
        ]
    )


def _known(values: Mapping[str, float | None]) -> list[float]:
    return [value for value in values.values() if value is not None]
