"""The interaction plot of a factorial design: lines that are not parallel are interactions."""

import itertools
from typing import Any

from research.report.plots.style import (
    Plot,
    chance_line,
    grid_lines,
    legend,
    mean_line,
    new_figure,
    styles,
)
from research.report.runs import Experiment
from research.report.summary import chance
from research.report.wording import is_share, with_unit


def interactions(
    experiment: Experiment, summary: dict[str, Any], panel: dict[str, Any]
) -> Plot | None:
    """A panel of a design of two or more factors without axes, every seed shown.

    The first factor makes the lines, the second the horizontal axis, the others the panels. A panel
    of fewer than two arms, which has no lines, is left out; None where all of them are.
    """
    design = experiment.design
    if design.axes or len(design.names) < 2:
        return None
    scale = 100 if is_share(panel["metric"]) else 1
    line_field, x_field, *others = design.names
    levels, xs = design.levels(line_field), design.levels(x_field)
    arms = {
        facet: [[design.find((level, x, *facet), ()) for x in xs] for level in levels]
        for facet in itertools.product(*(design.levels(field) for field in others))
    }
    facets = [facet for facet, found in arms.items() if _drawn(panel, found) > 1]
    if not facets:
        return None
    columns = min(3, len(facets))
    lines = -(-len(facets) // columns)
    figure = new_figure(2.6 * lines + 0.4)
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    style, rows = styles(levels, levels[0]), []
    apart = min(0.1, 0.7 / len(levels))
    crowded = columns * sum(len(x) + 3 for x in xs) > 100  # characters in the width
    for axis, facet in zip(axes.flat, facets, strict=False):
        for i, level in enumerate(levels):
            shift = (i - (len(levels) - 1) / 2) * apart
            mean_line(axis, panel, arms[facet][i], design, shift, style[level], heavy=True)
            for position, arm in enumerate(arms[facet][i]):
                seeds = panel["arms"][arm]["seeds"] if arm else {}
                seeds = {seed: value for seed, value in seeds.items() if value is not None}
                axis.plot(
                    [position + shift] * len(seeds),
                    [scale * value for value in seeds.values()],
                    *("o",),
                    markersize=3,
                    markerfacecolor="none",
                    markeredgewidth=0.6,
                    markeredgecolor=style[level]["color"],
                    alpha=0.7,
                )
                rows += [
                    {"metric": panel["metric"]}
                    | {field: own[arm] for field, own in design.factors.items()}
                    | {"seed": seed, "value": value}
                    for seed, value in seeds.items()
                ]
        axis.set_xticks(range(len(xs)), xs, rotation=90 if crowded else 0)
        axis.set_xlim(-0.5, len(xs) - 0.5)
        titles = zip(facet, others, strict=True)
        axis.set_title("\n".join(design.describe([level], [field]) for level, field in titles))
        grid_lines(axis, "y")
    if is_share(panel["metric"]):
        low, high = axes.flat[0].get_ylim()
        axes.flat[0].set_ylim(max(low, -3), min(high, 103))
    for axis in axes.flat[: len(facets)]:
        chance_line(axis, chance(panel["metric"], experiment.settings), scale)
    for axis in axes.flat[len(facets) :]:
        axis.set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel(design.label(x_field))
    for axis in axes[:, 0]:
        axis.set_ylabel(with_unit(panel["metric"], summary))
    circle = {"linestyle": "none", "marker": "o", "markerfacecolor": "none", "color": "0.4"}
    named = {level: style[level] for level in levels} | {"one seed": circle}
    legend(figure, named, design.label(line_field), "bar: mean and 95 % interval")
    return figure, rows


def _drawn(panel: dict[str, Any], lines: list[list[str | None]]) -> int:
    """How many of the arms of some lines have a mean."""
    arms = filter(None, itertools.chain(*lines))
    return sum(panel["arms"][arm]["mean"] is not None for arm in arms)
