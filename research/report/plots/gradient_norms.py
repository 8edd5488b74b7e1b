"""Gradient norm by layer: a heat map over steps per arm, or profiles along a design's axis."""

import itertools
from typing import Any

import numpy as np

from research.report.plots.style import (
    Plot,
    facet,
    grid_lines,
    group_legend,
    new_figure,
    styles,
)
from research.report.runs import Experiment, Run

PREFIX = "diagnostics/gradient_norm/"


def gradient_norms(experiment: Experiment, summary: dict[str, Any]) -> Plot | None:
    """Gradient norm by layer × step, one heat map per arm: geometric mean over its seeds.

    For designs without axes; the others have `gradient_profiles`.
    """
    if experiment.design.axes:
        return None
    from matplotlib.colors import LogNorm

    grids = {arm: _layer_grid(experiment.of(arm)) for arm in experiment.arms}
    grids = {arm: grid for arm, grid in grids.items() if grid}
    values = [v for grid in grids.values() for row in grid.values() for v in row.values() if v]
    if not values:
        return None
    layers = _merge_orders([list(grid) for grid in grids.values()])
    columns = min(3, len(grids))
    lines = -(-len(grids) // columns)
    height = max(1.2, 0.125 * min(len(layers), 16) + 0.4)
    figure = new_figure(lines * height + 0.3)
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
    low, high = np.percentile(values, (1, 99.5))  # one outlier must not flatten the colours
    norm = LogNorm(low, max(high, low * 1.01))
    for axis, arm in itertools.zip_longest(axes, grids):
        if arm is None:
            axis.set_axis_off()
            continue
        steps = sorted({step for row in grids[arm].values() for step in row})
        cells = [[grids[arm].get(layer, {}).get(s) or np.nan for s in steps] for layer in layers]
        axis.set_facecolor("0.85")  # grey: no such layer, or no finite value
        image = axis.pcolormesh(
            _edges(steps), np.arange(len(layers) + 1), np.ma.masked_invalid(cells), norm=norm
        )
        title = f"{arm}, n = {len(_with_rows(experiment.of(arm)))}"
        axis.set_title(title, fontsize=min(9, 200 / len(title)))
        every = -(-len(layers) // 16)
        axis.set_yticks(np.arange(0, len(layers), every) + 0.5, layers[::every], fontsize=7)
        axis.set_ylim(len(layers), 0)
        axis.tick_params(axis="y", length=0)
    figure.supxlabel("step", fontsize=9)
    bar = {"extend": "both", "extendfrac": 0.02, "aspect": 9 * lines * height, "pad": 0.01}
    figure.colorbar(image, ax=axes, label="gradient norm", **bar)
    rows = [
        {"arm": arm, "layer": layer, "step": step, "gradient_norm": value}
        for arm, grid in grids.items()
        for layer, row in grid.items()
        for step, value in row.items()
    ]
    return figure, rows


def gradient_profiles(experiment: Experiment, summary: dict[str, Any]) -> Plot | None:
    """Gradient norm from the first layer to the last, at the first, middle and last logged step.

    For a design with one axis, a line of panels for each of its levels (four at most): geometric
    mean over seeds, by group.
    """
    design = experiment.design
    if len(design.axes) != 1:
        return None
    grids = {arm: _layer_grid(experiment.of(arm)) for arm in design.arms}
    steps = sorted({step for grid in grids.values() for row in grid.values() for step in row})
    if not steps:
        return None
    moments = {steps[0]: "start", steps[len(steps) // 2]: "middle", steps[-1]: "end"}
    facets, rows = facet(design), []
    figure = new_figure(1.4 * len(facets) + 1.2)
    axes = figure.subplots(len(facets), len(moments), squeeze=False, sharex="row", sharey=True)
    style = styles(design.groups, design.base)
    for line, (title, arms) in zip(axes, facets.items(), strict=True):
        order = _merge_orders([list(grids[arm]) for arm in arms])  # some have layers of their own
        for axis, (step, moment) in zip(line, moments.items(), strict=True):
            for arm in arms:
                norms = [row.get(step) or np.nan for row in grids[arm].values()]
                places = [order.index(layer) + 1 for layer in grids[arm]]
                axis.plot(places, norms, **style[design.group(arm)] | {"marker": None})
                rows += [
                    {"arm": arm, "step": step, "layer": layer, "gradient_norm": row.get(step)}
                    for layer, row in grids[arm].items()
                ]
            axis.set_yscale("log")
            grid_lines(axis, "y")
            if axis.get_subplotspec().is_first_row():
                axis.set_title(f"{moment} (step {step})")
            if axis.get_subplotspec().is_last_row():
                axis.set_xlabel("layer, from the input on")
        line[0].set_ylabel(title)
    figure.supylabel("gradient norm of the layer", fontsize=9)
    group_legend(figure, design, style, "")
    return figure, rows


def _layer_grid(runs: list[Run]) -> dict[str, dict[int, float | None]]:
    """Layer → step → geometric mean of the gradient norm over runs; None without a finite value."""
    logs: dict[str, dict[int, list[float]]] = {}
    for run in _with_rows(runs):
        for row in run.rows:
            for name, value in row.items():
                if name.startswith(PREFIX):
                    steps = logs.setdefault(name.removeprefix(PREFIX), {})
                    steps.setdefault(row["step"], [])
                    if value:
                        steps[row["step"]].append(float(np.log(value)))
    return {
        layer: {step: float(np.exp(np.mean(logs_))) if logs_ else None for step, logs_ in s.items()}
        for layer, s in logs.items()
    }


def _with_rows(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.ended and run.rows]


def _merge_orders(orders: list[list[str]]) -> list[str]:
    """Join lists of layers, each in order of depth, into one: a new layer follows its neighbour."""
    merged: list[str] = []
    for order in sorted(orders, key=len, reverse=True):
        place = 0
        for layer in order:
            if layer in merged:
                place = merged.index(layer) + 1
            else:
                merged.insert(place, layer)
                place += 1
    return merged


def _edges(steps: list[int]) -> np.ndarray:
    """Edges of the cells around `steps`: midpoints, and as far beyond the first and the last."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    centres = np.asarray(steps, float)
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]])
