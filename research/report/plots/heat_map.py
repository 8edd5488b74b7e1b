"""A metric over the two axes of a design: where training works at all."""

from typing import Any

import numpy as np

from research.report.plots.style import Plot, data_row, new_figure
from research.report.runs import Experiment
from research.report.summary import chance
from research.report.wording import is_share, number, with_unit


def heat_map(experiment: Experiment, summary: dict[str, Any], panel: dict[str, Any]) -> Plot | None:
    """The mean of a panel over the axes of a design with two, a map for each group."""
    design = experiment.design
    if len(design.axes) != 2:
        return None
    y, x = design.axes
    scale = 100 if is_share(panel["metric"]) else 1
    ys, xs, rows = design.levels(y), design.levels(x), []
    maps = {}
    for group in design.groups:
        grid = maps[group] = np.full((len(ys), len(xs)), np.nan)
        for i, j in np.ndindex(*grid.shape):
            arm = design.find(group, (ys[i], xs[j]))
            entry = panel["arms"].get(arm) if arm else None
            if entry and entry["mean"] is not None:
                grid[i, j] = scale * entry["mean"]
                rows.append(data_row(panel, arm, design))
    if not rows:
        return None
    columns = min(2, len(maps))
    lines = -(-len(maps) // columns)
    figure = new_figure(lines * (0.36 * len(ys) + 0.55) + 0.3)
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    low, high = (np.nanmin([*maps.values()]), np.nanmax([*maps.values()]))
    guess = chance(panel["metric"], experiment.settings)
    if is_share(panel["metric"]):
        low, high = scale * (guess or 0), 100.0
    middle = (low + high) / 2
    for axis in axes.flat[len(maps) :]:
        axis.set_axis_off()
    for axis, (group, grid) in zip(axes.flat, maps.items(), strict=False):
        axis.set_facecolor("0.85")  # grey: no value
        image = axis.imshow(grid, vmin=low, vmax=high, origin="lower", aspect="auto")
        for (i, j), value in np.ndenumerate(grid):
            if np.isfinite(value):
                color = "white" if value < middle else "black"
                text = f"{value:.0f}" if scale == 100 else number(value, 2)
                axis.annotate(text, (j, i), ha="center", va="center", fontsize=8, color=color)
        axis.set_title(design.describe(group))
        axis.set_xticks(range(len(xs)), [f"{level:g}" for level in xs])
        axis.set_yticks(range(len(ys)), [f"{level:g}" for level in ys])
        axis.tick_params(length=0)
    for axis in axes[-1]:
        axis.set_xlabel(design.label(x))
    for axis in axes[:, 0]:
        axis.set_ylabel(design.label(y))
    figure.colorbar(image, ax=axes, label=with_unit(panel["metric"], summary), aspect=30, pad=0.01)
    return figure, rows
