"""Every metric along the one axis of a design: a degradation curve, a learning-rate sweep."""

import itertools
from typing import TYPE_CHECKING, Any

from research.report.plots.style import (
    Plot,
    chance_line,
    grid_lines,
    group_legend,
    mean_line,
    new_figure,
    styles,
)
from research.report.runs import Experiment
from research.report.summary import chance
from research.report.wording import is_share, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def along_axis(experiment: Experiment, summary: dict[str, Any]) -> Plot | None:
    """Every panel's metric along the axis of a design with one: mean and interval by group."""
    design = experiment.design
    if len(design.axes) != 1:
        return None
    panels, field = summary["panels"], design.axes[0]
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
        scale = 100 if is_share(panel["metric"]) else 1
        for i, group in enumerate(design.groups):
            shift = (i - (len(design.groups) - 1) / 2) * 0.09  # so that intervals stay apart
            arms = [design.find(group, (level,)) for level in design.levels(field)]
            rows += mean_line(axis, panel, arms, design, shift, style[group])
        names = [f"{level:g}" for level in design.levels(field)]
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.4, len(names) - 0.6)
        axis.set(xlabel=design.label(field), ylabel=with_unit(panel["metric"], summary))
        _keep_in_range(axis, panel, scale)
        grid_lines(axis, "y")
        chance_line(axis, chance(panel["metric"], experiment.settings), scale)
    group_legend(figure, design, style, "bar: 95 % interval over seeds")
    return figure, rows


def _keep_in_range(axis: "Axes", panel: dict[str, Any], scale: float) -> None:
    """Leave out of the view what an interval claims beyond 0 or 100 %."""
    if is_share(panel["metric"]):
        low, high = axis.get_ylim()
        margin = 0.03 * scale
        axis.set_ylim(max(low, -margin), min(high, scale + margin))
    elif panel["metric"].endswith("/loss"):
        axis.set_ylim(bottom=max(axis.get_ylim()[0], 0))
