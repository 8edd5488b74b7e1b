"""Every metric along the one axis of a design: a degradation curve, a learning-rate sweep."""

import itertools
from typing import TYPE_CHECKING, Any

from research.report.plots.style import (
    Plot,
    chance_line,
    grid_lines,
    group_legend,
    legend,
    mean_line,
    new_figure,
    styles,
)
from research.report.runs import Experiment
from research.report.summary import chance
from research.report.wording import is_share, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MANY = 6  # groups beyond which one axis would be a thicket


def along_axis(experiment: Experiment, summary: dict[str, Any]) -> Plot | None:
    """Every panel's metric along the axis of a design with one: mean and interval by group.

    Many groups stand in a column for each level of their first factor.
    """
    design = experiment.design
    if len(design.axes) != 1:
        return None
    if len(design.groups) > MANY and len(design.names) > 1:
        return _in_columns(experiment, summary)
    panels = summary["panels"]
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(2.3 * lines + 0.4)
    axes = figure.subplots(lines, columns, squeeze=False).flat
    style = styles(design.groups, design.base)
    rows = []
    for axis, panel in itertools.zip_longest(axes, panels):
        if panel is None:
            axis.set_axis_off()
            continue
        rows += _draw(axis, panel, experiment, {group: style[group] for group in design.groups})
    group_legend(figure, design, style, REMARK)
    return figure, rows


REMARK = "bar: 95 % interval over seeds"


def _in_columns(experiment: Experiment, summary: dict[str, Any]) -> Plot:
    design, panels = experiment.design, summary["panels"]
    first, *others = design.names
    levels = design.levels(first)
    kinds = list(dict.fromkeys(group[1:] for group in design.groups))
    style = styles(kinds, design.base[1:] if design.base else None)
    figure = new_figure(1.9 * len(panels) + 0.6)
    axes = figure.subplots(len(panels), len(levels), squeeze=False, sharex="col", sharey="row")
    rows = []
    for line, panel in zip(axes, panels, strict=True):
        for axis, level in zip(line, levels, strict=True):
            groups = {(level, *kind): style[kind] for kind in kinds}
            rows += _draw(axis, panel, experiment, groups)
            axis.label_outer()
    for axis, level in zip(axes[0], levels, strict=True):
        axis.set_title(f"{design.label(first)}: {level}")
    named = {" · ".join(kind): style[kind] for kind in kinds}
    legend(figure, named, " · ".join(map(design.label, others)), REMARK)
    return figure, rows


def _draw(
    axis: "Axes", panel: dict[str, Any], experiment: Experiment, groups: dict[tuple, dict]
) -> list[dict[str, Any]]:
    """Draw one panel of `groups`, each in its style; return the data."""
    design = experiment.design
    (field,) = design.axes
    rows, scale = [], 100 if is_share(panel["metric"]) else 1
    apart = min(0.09, 0.6 / len(groups))  # so that intervals stay apart, and levels too
    for i, (group, style) in enumerate(groups.items()):
        arms = [design.find(group, (level,)) for level in design.levels(field)]
        rows += mean_line(axis, panel, arms, design, (i - (len(groups) - 1) / 2) * apart, style)
    names = [f"{level:g}" for level in design.levels(field)]
    axis.set_xticks(range(len(names)), names)
    axis.set_xlim(-0.4, len(names) - 0.6)
    axis.set(xlabel=design.label(field), ylabel=with_unit(panel["metric"], experiment.settings))
    _keep_in_range(axis, panel, scale)
    grid_lines(axis, "y")
    chance_line(axis, chance(panel["metric"], experiment.settings), scale)
    return rows


def _keep_in_range(axis: "Axes", panel: dict[str, Any], scale: float) -> None:
    """Leave out of the view what an interval claims beyond 0 or 100 %."""
    if is_share(panel["metric"]):
        low, high = axis.get_ylim()
        margin = 0.03 * scale
        axis.set_ylim(max(low, -margin), min(high, scale + margin))
    elif panel["metric"].endswith("/loss"):
        axis.set_ylim(bottom=max(axis.get_ylim()[0], 0))
