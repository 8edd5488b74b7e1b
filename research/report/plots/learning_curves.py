"""Learning curves: training loss and validation metric by step."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from research.report.plots.style import (
    WIDTH,
    Plot,
    chance_line,
    facet,
    grid_lines,
    group_legend,
    new_figure,
    styles,
)
from research.report.runs import Experiment, Run
from research.report.statistics import mean_interval
from research.report.summary import chance
from research.report.wording import is_share, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curves(experiment: Experiment, summary: dict[str, Any]) -> Plot | None:
    """Training loss and validation metric by step: mean over seeds, band from least to greatest.

    A mean is taken at the steps that all ended runs of an arm share, so that it never jumps because
    a seed drops out; a run that diverged stands apart, as a thin line that ends in a cross. A
    design with an axis has a column for each of its levels (four at most); one with two has none.
    """
    design = experiment.design
    if len(design.axes) > 1:
        return None
    logged = {name for run in experiment.runs if run.ended for row in run.rows for name in row}
    validation = ("validation/accuracy", "validation/loss")
    shown = [m for m in ("train/loss", *validation) if m in logged]
    if len(shown) == 3:
        shown.remove("validation/loss")
    if not shown:
        return None
    figure, rows = new_figure(2.9), []
    facets = facet(design)
    if design.axes:  # a line for each metric, with one scale
        lines = figure.subplots(len(shown), len(facets), squeeze=False, sharex=True, sharey="row")
    else:
        lines = figure.subplots(1, len(shown), squeeze=False).T
    groups = styles(design.groups, design.base)
    for metric, line in zip(shown, lines, strict=True):
        scale = 100 if is_share(metric) else 1
        for axis, arms in zip(line, facets.values(), strict=True):
            for i, arm in enumerate(arms):
                runs = [run for run in experiment.of(arm) if run.ended and not run.diverged]
                band = _band(runs, arm, metric)
                rows += band
                if band:
                    place = (i, len(arms))
                    _draw_band(axis, band, scale, groups[design.group(arm)], place)
        limits = _limits(line, metric)
        for axis, (title, arms) in zip(line, facets.items(), strict=True):
            for run in (run for arm in arms for run in experiment.of(arm) if run.diverged):
                _until_divergence(axis, run, metric, scale, groups[design.group(run.arm)], limits)
            if metric.endswith("loss"):
                _log_scale(axis)
            if limits:
                axis.set_ylim(limits)
            grid_lines(axis, "y")
            chance_line(axis, chance(metric, experiment.settings), scale)
            if metric == shown[0]:
                axis.set_title(title)
            if metric == shown[-1] or not design.axes:
                axis.set_xlabel("step")
        line[0].set_ylabel(with_unit(metric, summary))
    if design.axes:
        figure.set_figheight(1.9 * len(shown) + 0.5)
        remark = "band: least to greatest seed"
        if any(run.diverged for run in experiment.runs):
            remark += "\ncross: a run diverged"
        group_legend(figure, design, groups, remark)
    else:
        _legend(figure, experiment, {arm: groups[design.group(arm)] for arm in experiment.arms})
    return figure, rows


def _band(runs: list[Run], arm: str, metric: str) -> list[dict[str, Any]]:
    """Mean, t interval and range over seeds at the steps that every run has."""
    curves = [curve for run in runs if (curve := run.curve(metric))]
    if not curves:
        return []
    rows = []
    for step in sorted(set.intersection(*(set(curve) for curve in curves))):
        values = [curve[step] for curve in curves if curve[step] is not None]
        if values:
            mean, interval = mean_interval(values)
            low, high = interval or (None, None)
            row = {"metric": metric, "arm": arm, "step": step, "n": len(values), "mean": mean}
            row |= {"ci95_low": low, "ci95_high": high, "min": min(values), "max": max(values)}
            rows.append(row)
    return rows


def _draw_band(
    axis: "Axes",
    band: list[dict[str, Any]],
    scale: float,
    style: dict[str, Any],
    place: tuple[int, int],
) -> None:
    keys = ("step", "mean", "min", "max")
    steps, mean, low, high = (np.array([row[key] for row in band]) for key in keys)
    every = max(1, len(steps) // 6)  # staggered, so that markers do not meet
    marks = {"markersize": 3.5, "markevery": (place[0] * every // place[1], every)}
    axis.plot(steps, scale * mean, **style, **marks)
    shade = {"color": style["color"], "alpha": 0.15, "linewidth": 0}
    axis.fill_between(steps, scale * low, scale * high, **shade)


def _until_divergence(
    axis: "Axes",
    run: Run,
    metric: str,
    scale: float,
    style: dict[str, Any],
    limits: tuple[float, float] | None,
) -> None:
    """Draw a run up to where it diverged; a cross beyond the limits stands at their edge."""
    points = [(step, scale * v) for step, v in run.curve(metric).items() if v is not None]
    if points:
        axis.plot(*zip(*points, strict=True), color=style["color"], linewidth=0.7)
        step, last = points[-1]
        at = float(np.clip(last, *limits)) if limits else last
        look = {"color": style["color"], "markersize": 6, "markeredgewidth": 1.5}
        axis.plot(step, at, "x", clip_on=False, **look)


def _limits(axes: Iterable["Axes"], metric: str) -> tuple[float, float] | None:
    """Limits that hold every mean drawn on `axes`; of an accuracy, those after a fifth of training:
    the arms differ there.
    """
    curves = [line.get_xydata() for axis in axes for line in axis.lines]
    if not curves:
        return None
    loss = metric.endswith("loss")
    early = 0 if loss else 0.2 * max(curve[-1, 0] for curve in curves)
    late = [y for curve in curves for x, y in curve if x >= early]
    low, high = min(late), max(late)
    if loss and low > 0:  # on a logarithmic scale
        return low / 1.3, high * 1.3
    margin = 0.05 * (high - low) or 1
    return low - margin, high + margin


def _log_scale(axis: "Axes") -> None:
    """Scale logarithmically, if all values are positive, with ticks that read as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    drawn = [y for line in axis.lines for y in line.get_ydata()]
    if not drawn or min(drawn) <= 0:
        return
    axis.set_yscale("log")
    decades = np.log10(max(drawn) / min(drawn))
    axis.yaxis.set_major_locator(LogLocator(subs=(1,) if decades > 2 else (1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: "Figure", experiment: Experiment, style: dict[str, dict[str, Any]]) -> None:
    """One legend below all axes; it says how many seeds stand behind each line."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = []
    for arm in experiment.arms:
        ended = [run for run in experiment.of(arm) if run.ended]
        count = sum(not run.diverged for run in ended)
        name = f"{arm}, n = {count}" if count else f"{arm}, no run left"
        handles.append(Line2D([], [], label=name, markersize=3.5, **style[arm]))
    handles.append(Patch(color="0.85", label="least to greatest seed"))
    if any(run.diverged for run in experiment.runs):
        handles.append(Line2D([], [], color="0.3", linewidth=0.7, marker="x", label="diverged run"))
    longest = max(len(handle.get_label()) for handle in handles)
    columns = max(1, min(len(handles), int(WIDTH / (0.065 * longest + 0.55))))  # inches of 8 pt
    figure.set_figheight(2.5 + 0.18 * -(-len(handles) // columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
