"""The interaction plot of a factorial design: lines that are not parallel are interactions."""

import itertools
from typing import Any

from research.report.plots.style import Plot, chance_line, grid_lines, mean_line, new_figure, styles
from research.report.runs import Experiment
from research.report.summary import chance
from research.report.wording import is_share, with_unit


def interactions(
    experiment: Experiment, summary: dict[str, Any], panel: dict[str, Any]
) -> Plot | None:
    """A panel of a design of two or more factors without axes, every seed shown.

    The first factor makes the lines, the second the horizontal axis, the others the panels.
    """
    design = experiment.design
    if design.axes or len(design.names) < 2:
        return None
    scale = 100 if is_share(panel["metric"]) else 1
    line_field, x_field, *others = design.names
    facets = list(itertools.product(*(design.levels(field) for field in others)))
    columns = min(3, len(facets))
    lines = -(-len(facets) // columns)
    figure = new_figure(2.6 * lines + 0.4)
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    levels, xs = design.levels(line_field), design.levels(x_field)
    style, rows = styles(levels, levels[0]), []
    for axis, facet in zip(axes.flat, facets, strict=False):
        for i, level in enumerate(levels):
            shift = (i - (len(levels) - 1) / 2) * 0.1
            arms = [design.find((level, x, *facet), ()) for x in xs]
            mean_line(axis, panel, arms, design, shift, style[level], heavy=True)
            for position, arm in enumerate(arms):
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
        axis.set_xticks(range(len(xs)), xs)
        axis.set_xlim(-0.4, len(xs) - 0.6)
        axis.set_title(design.describe(facet, others))
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
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=level, markersize=5, **style[level]) for level in levels]
    circle = {"linestyle": "none", "marker": "o", "markerfacecolor": "none", "color": "0.4"}
    handles.append(Line2D([], [], markersize=3, label="one seed", **circle))
    handles.append(Line2D([], [], linestyle="none", label="bar: mean and 95 % interval"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        title=design.label(line_field),
    )
    return figure, rows
