"""What clipping sees and does: the gradient norm before it, and how often it acts."""

from typing import Any

import numpy as np

from research.report.plots.style import Plot, grid_lines, new_figure, styles
from research.report.runs import Experiment, finite

QUANTILES = (5, 25, 50, 75, 95)


def clipping(experiment: Experiment, summary: dict[str, Any]) -> Plot | None:
    """Quantiles of the norm before clipping over all rows and seeds, and the share clipped, by arm.

    None where no run was clipped.
    """
    rows = [_clipped(experiment, arm) for arm in experiment.arms]
    if not any(row["clipped_fraction"] for row in rows):
        return None
    figure = new_figure(0.19 * max(4, len(rows)) + 1.0)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    design = experiment.design
    colour = {name: style["color"] for name, style in styles(design.groups, design.base).items()}
    for y, (arm, row) in enumerate(zip(experiment.arms, rows, strict=True)):
        color = colour[design.group(arm)]
        low, lower, middle, upper, high = (row[f"q{q}"] for q in QUANTILES)
        if middle is not None:
            left.plot([low, high], [y, y], color=color, linewidth=0.9)
            left.plot([lower, upper], [y, y], color=color, linewidth=4, solid_capstyle="butt")
            left.plot(middle, y, "|", color="white", markersize=6, markeredgewidth=1.2)
        right.barh(y, 100 * (row["clipped_fraction"] or 0), height=0.6, color=color)
    left.set_xscale("log")
    left.set_xlabel("gradient norm before clipping")
    right.set_xlabel("clipped steps (%)")
    right.set_xlim(0, 100)
    left.set_yticks(range(len(rows)), experiment.arms, fontsize=7)
    left.set_ylim(len(rows) - 0.5, -0.5)
    for axis in (left, right):
        axis.tick_params(axis="y", length=0)
        grid_lines(axis, "x")
    figure.supxlabel(
        "thin: 5th to 95th percentile; thick: quartiles; gap: median; of every finite logged norm",
        fontsize=8,
        color="0.35",
    )
    return figure, rows


def _clipped(experiment: Experiment, arm: str) -> dict[str, Any]:
    logged = [
        row
        for run in experiment.of(arm)
        if run.ended
        for row in run.rows
        if "clipped_fraction" in row
    ]
    norms = [norm for row in logged if (norm := finite(row["gradient_norm"])) is not None]
    marks = np.percentile(norms, QUANTILES).tolist() if norms else [None] * len(QUANTILES)
    shares = [finite(run.metrics.get("clipped_fraction")) for run in experiment.of(arm)]
    acted = [share for share in shares if share is not None]
    return (
        {"arm": arm, "rows": len(logged), "not_finite": len(logged) - len(norms)}
        | {f"q{q}": mark for q, mark in zip(QUANTILES, marks, strict=True)}
        | {"clipped_fraction": float(np.mean(acted)) if acted else None}
    )
