"""Main effects and interactions with their intervals, as a forest plot."""

from typing import Any

from research.report.plots.style import BASELINE, COLOURS, Plot, grid_lines, new_figure
from research.report.runs import Experiment
from research.report.tables import term
from research.report.wording import is_share, label


def effect_sizes(
    experiment: Experiment, summary: dict[str, Any], panel: dict[str, Any]
) -> Plot | None:
    """The effects on a panel: averaged over the other factors, and at their baseline."""
    design = experiment.design
    if not panel["effects"]:
        return None
    scale = 100 if is_share(panel["metric"]) else 1
    effects = panel["effects"]
    figure = new_figure(0.25 * len(effects) + 1.0)
    axis, rows = figure.subplots(), []
    for y, effect in enumerate(effects):
        order = len(effect["levels"])
        color = (BASELINE, *COLOURS)[(order - 1) % 7]
        for kind, found in (("averaged", effect), ("at_baseline", effect["at_baseline"])):
            averaged = kind == "averaged"
            height = y - 0.14 if averaged else y + 0.14
            low, high = (scale * b for b in found["ci95"] or [found["mean"]] * 2)
            axis.plot([low, high], [height] * 2, color=color, linewidth=1.4 if averaged else 0.8)
            face = color if averaged else "white"
            axis.plot(scale * found["mean"], height, "o", color=color, mfc=face, markersize=4.5)
            rows.append(
                {"metric": panel["metric"], "effect": term(effect["levels"], design)}
                | {"order": order, "kind": kind, "mean": found["mean"]}
                | {"ci95_low": low / scale, "ci95_high": high / scale}
                | {"p_holm": effect["p_holm"] if averaged else None}
            )
    axis.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(effects)), [term(e["levels"], design) for e in effects])
    axis.set_ylim(len(effects) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    unit = " (percentage points)" if scale == 100 else ""
    axis.set_xlabel(f"effect on {label(panel['metric'], summary)}{unit}")
    grid_lines(axis, "x")
    figure.supxlabel(
        "filled: averaged over the other factors; open: with the others at the baseline; "
        "bar: 95 % interval",
        fontsize=8,
        color="0.35",
    )
    return figure, rows
