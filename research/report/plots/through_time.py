"""What recurrent networks do through time: the gradient at each step, and their gates."""

from collections import defaultdict
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
from research.report.runs import Experiment, Run, finite

GRADIENT = "diagnostics/state_gradient/"
SHOWN = "layer1_forward"
BELOW, ABOVE = "diagnostics/gate_below/", "diagnostics/gate_above/"


def state_gradients(experiment: Experiment, summary: dict[str, Any]) -> Plot | None:
    """‖∂loss/∂h_t‖ by t, at the first and at the last logged step: geometric mean over seeds.

    For a design with one axis, a line of panels for each of its levels (four at most). The data
    hold every layer and direction, the figure the first layer forward.
    """
    design = experiment.design
    if len(design.axes) > 1:
        return None
    norms = {arm: _norms(experiment.of(arm)) for arm in design.arms}
    logged = sorted({step for found in norms.values() for _, step in found})
    if not logged:
        return None
    moments = {logged[0]: "start", logged[-1]: "end"}
    facets = facet(design)
    figure = new_figure(1.7 * len(facets) + 1.0)
    axes = figure.subplots(len(facets), len(moments), squeeze=False, sharex="row", sharey=True)
    style = styles(design.groups, design.base)
    for line, (title, arms) in zip(axes, facets.items(), strict=True):
        for axis, (step, moment) in zip(line, moments.items(), strict=True):
            for arm in arms:
                curve = norms[arm].get((SHOWN, step), {})
                values = [value or np.nan for value in curve.values()]
                axis.plot(list(curve), values, **style[design.group(arm)] | {"marker": None})
            axis.set_yscale("log")
            grid_lines(axis, "y")
            if axis.get_subplotspec().is_first_row():
                axis.set_title(f"{moment} (step {step})")
            if axis.get_subplotspec().is_last_row():
                axis.set_xlabel("step t of the sequence")
        line[0].set_ylabel(title)
    figure.supylabel("norm of ∂loss/∂h at t", fontsize=9)
    group_legend(figure, design, style, "")
    rows = [
        {"arm": arm, "layer": layer, "step": step, "t": t, "state_gradient": value}
        for arm, found in norms.items()
        for (layer, step), curve in found.items()
        for t, value in curve.items()
    ]
    return figure, rows


def gates(experiment: Experiment, summary: dict[str, Any]) -> Plot | None:
    """The share of each gate's values below 0.1 and above 0.9 at the end, by arm: mean over seeds.

    None where no arm has gates.
    """
    rows = [row for arm in experiment.arms for row in _shares(arm, experiment.of(arm))]
    if not rows:
        return None
    figure = new_figure(0.17 * max(4, len(rows)) + 0.8)
    left, right = figure.subplots(1, 2, sharey=True)
    design = experiment.design
    colour = {name: style["color"] for name, style in styles(design.groups, design.base).items()}
    for y, row in enumerate(rows):
        for axis, share in ((left, row["below"]), (right, row["above"])):
            axis.barh(y, 100 * share, height=0.6, color=colour[design.group(row["arm"])])
    left.set_xlabel("below 0.1 (%)")
    right.set_xlabel("above 0.9 (%)")
    names = [f"{row['arm']} {row['gate'].removesuffix('_gate')}" for row in rows]
    one_layer = len({row["layer"] for row in rows}) == 1
    if not one_layer:
        names = [f"{name} {row['layer']}" for name, row in zip(names, rows, strict=True)]
    left.set_yticks(range(len(rows)), names, fontsize=7)
    left.set_ylim(len(rows) - 0.5, -0.5)
    for axis in (left, right):
        axis.set_xlim(0, 100)
        axis.tick_params(axis="y", length=0)
        grid_lines(axis, "x")
    return figure, rows


def _norms(runs: list[Run]) -> dict[tuple[str, int], dict[int, float | None]]:
    """(layer, step) → t → geometric mean over runs, in order of t; None without a finite value."""
    logs: dict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for row in run.rows if run.ended else ():
            for name, value in row.items():
                if name.startswith(GRADIENT):
                    layer, _, t = name.removeprefix(GRADIENT).partition("/t=")
                    kept = logs[layer, row["step"]][int(t)]
                    if value:
                        kept.append(float(np.log(value)))
    return {
        place: {t: float(np.exp(np.mean(curve[t]))) if curve[t] else None for t in sorted(curve)}
        for place, curve in logs.items()
    }


def _shares(arm: str, runs: list[Run]) -> list[dict[str, Any]]:
    """The last shares of each gate of an arm, a mean over the runs that have logged any."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run in runs:
        logged = [row for row in run.rows if any(k.startswith(BELOW) for k in row)]
        last = logged[-1] if run.ended and logged else {}
        for name, value in last.items():
            gate = name.removeprefix(BELOW)
            if gate != name:
                both = finite(value), finite(last[ABOVE + gate])
                if None not in both:
                    found[gate].append(both)
    return [
        {"arm": arm, "layer": layer, "gate": name, "n": len(shares)}
        | dict(zip(("below", "above"), np.mean(shares, axis=0).tolist(), strict=True))
        for gate, shares in found.items()
        for layer, _, name in [gate.partition("/")]
    ]
