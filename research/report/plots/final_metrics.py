"""Final metrics by arm, with every seed shown."""

import itertools
from typing import TYPE_CHECKING, Any

from research.report.plots.style import Plot, grid_lines, new_figure, styles
from research.report.runs import Experiment
from research.report.wording import is_share, number, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def final_metrics(experiment: Experiment, summary: dict[str, Any]) -> Plot | None:
    """Every seed of every arm as a dot, the mean and its 95 % interval, one panel per metric.

    The axis spans the runs that did not diverge; a mean pulled off it by diverged runs is written
    at the edge instead, so that the other arms stay apart. A design with one axis or two is
    drawn along them instead. The baseline that an arm is compared with is dotted in its row.
    """
    if len(experiment.design.axes) in (1, 2):
        return None
    from matplotlib.ticker import MaxNLocator

    panels, arms = summary["panels"], experiment.arms
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(lines * (0.75 + 0.27 * len(arms)) + 0.25)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).flat
    style, rows = styles(arms, experiment.settings.get("baseline")), []
    for axis, panel in itertools.zip_longest(axes, panels):
        if panel is None:
            axis.set_axis_off()
            continue
        scale = 100 if is_share(panel["metric"]) else 1
        span = _span(experiment, panel, scale)
        axis.set_xlim(*span)
        for y, arm in enumerate(arms):
            _final_row(axis, y, panel["arms"][arm], scale, span, style[arm])
            rows += [
                {
                    "metric": panel["metric"],
                    "arm": arm,
                    "seed": run.seed,
                    "status": run.result.get("status"),
                    "value": panel["arms"][arm]["seeds"][str(run.seed)],
                }
                for run in experiment.of(arm)
                if run.ended
            ]
        for base, (first, last) in _baselines(panel, arms):
            if span[0] < scale * base < span[1]:
                dotted = {"color": "0.6", "linewidth": 0.8, "linestyle": ":", "zorder": 0}
                axis.plot([scale * base] * 2, (first - 0.5, last + 0.5), **dotted)
        better = {"max": "→", "min": "←"}.get(panel["direction"], "")
        axis.set_xlabel(f"{with_unit(panel['metric'], summary)}  {better}")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.set_yticks(range(len(arms)), arms)
        axis.set_ylim(len(arms) - 0.5, -0.5)
        axis.tick_params(axis="y", length=0)
        grid_lines(axis, "x")
    figure.supxlabel(
        "circle: one seed; bar: mean and 95 % interval; dotted: baseline; arrow: better",
        fontsize=8,
        color="0.35",
    )
    return figure, rows


def _baselines(panel: dict[str, Any], arms: list[str]) -> list[tuple[float, tuple[int, int]]]:
    """The mean that arms are compared with, and the first and the last row of those that are."""
    entries = panel["arms"]
    bases = {panel["baseline"]} | {entry["reference"] for entry in entries.values()}
    of_rows = [entries[arm]["reference"] or (arm if arm in bases else None) for arm in arms]
    found = []
    for base, group in itertools.groupby(range(len(arms)), key=of_rows.__getitem__):
        rows = list(group)
        if base is not None and entries[base]["mean"] is not None:
            found.append((entries[base]["mean"], (rows[0], rows[-1])))
    return found


def _span(experiment: Experiment, panel: dict[str, Any], scale: float) -> tuple[float, float]:
    """Axis limits that hold every run that did not diverge, and the intervals of such arms."""
    inside = []
    for arm, entry in panel["arms"].items():
        lost = {str(run.seed) for run in experiment.of(arm) if run.diverged}
        inside += [v for seed, v in entry["seeds"].items() if v is not None and seed not in lost]
        if not entry["diverged"]:
            inside += entry["ci95"] or []
    if not inside:  # every run diverged
        inside = [v for e in panel["arms"].values() for v in e["seeds"].values() if v is not None]
    low, high = (scale * min(inside), scale * max(inside)) if inside else (0.0, 1.0)
    if is_share(panel["metric"]):  # whatever an interval claims beyond
        low, high = max(low, 0.0), min(high, scale)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


def _final_row(
    axis: "Axes",
    y: int,
    entry: dict[str, Any],
    scale: float,
    span: tuple[float, float],
    style: dict[str, Any],
) -> None:
    """Draw one arm: its seeds above, its mean and interval below, words where there is room."""
    seeds = [scale * v for v in entry["seeds"].values() if v is not None]
    heights = [y - 0.2 + 0.1 * (i % 3 - 1) for i in range(len(seeds))]  # equal seeds stay apart
    axis.plot(
        *(seeds, heights),
        "o",
        markersize=3.5,
        markerfacecolor="none",
        markeredgecolor=style["color"],
        markeredgewidth=0.9,
    )
    words = []
    if entry["diverged"]:
        words.append(f"{entry['diverged']} diverged")
    elif "reached" in entry and entry["reached"] < entry["ended"]:
        words.append(f"reached by {entry['reached']} of {entry['ended']}")
    if entry["n"] == 1:
        words.append("1 seed")
    if entry["mean"] is None:
        return _write(axis, ", ".join(["no value", *words]), y, left=True)
    mean = scale * entry["mean"]
    if not span[0] <= mean <= span[1]:
        left = mean < span[0]
        text = ", ".join([f"mean {number(mean)}", *words])
        return _write(axis, f"◀ {text}" if left else f"{text} ▶", y + 0.2, left)
    low, high = (scale * bound for bound in entry["ci95"] or [entry["mean"]] * 2)
    axis.plot([low, high], [y + 0.15] * 2, color=style["color"], linewidth=1.6)
    axis.plot(mean, y + 0.15, marker=style["marker"], color=style["color"], markersize=5)
    drawn = [low, high, *(seed for seed in seeds if span[0] <= seed <= span[1])]
    _write(axis, ", ".join(words), y, left=min(drawn) - span[0] > span[1] - max(drawn))


def _write(axis: "Axes", text: str, y: float, left: bool) -> None:
    axis.annotate(
        text,
        (0.02 if left else 0.98, y),
        xycoords=("axes fraction", "data"),
        ha="left" if left else "right",
        va="center",
        fontsize=8,
        color="0.35",
    )
