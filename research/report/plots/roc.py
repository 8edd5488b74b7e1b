"""ROC curves of classes against the rest."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from research.report.plots.style import COLOURS, LINES, Plot, grid_lines, new_figure

NAMED = 12  # classes up to which each has its colour and name
WORST = 6  # that have them where there are more


def roc_plot(curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]], title: str) -> Plot:
    """Draw true against false positives: the whole curves, and their corner at few false ones.

    Args:
        curves: class → (false positive rates, true positive rates, area under the curve), from
            (0, 0) to (1, 1).
        title: above the figure.
    """
    by_area = sorted(curves, key=lambda name: curves[name][2])
    named = [*curves] if len(curves) <= NAMED else by_area[:WORST]
    columns = max(1, min(4, 110 // (max(map(len, named)) + 16)))
    figure = new_figure(3.6 + 0.16 * -(-len(named) // columns))
    whole, corner = figure.subplots(1, 2)
    first = min((x[x > 0][0] for x, _, _ in curves.values()), default=0.01)
    left, lowest = first / 2, 0.95
    for name in [*(n for n in curves if n not in named), *named]:
        x, y, area = curves[name]
        style: dict[str, Any] = {"color": "0.75", "linewidth": 0.6}
        if name in named:
            i = named.index(name)
            style = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i // len(COLOURS)]}
            style["label"] = f"{name} ({area:.4f})"
        whole.plot(x, y, **style)
        start = np.flatnonzero(x == 0)[-1]  # the axis of the corner has no 0
        corner.plot(np.maximum(x[start:], left), y[start:], **style)
        lowest = min(lowest, y[start])
    chance = np.geomspace(left, 1, 200)
    corner.plot(chance, chance, color="0.5", linewidth=0.8, linestyle=":")
    whole.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, linestyle=":")
    below = {"textcoords": "offset points", "va": "top", "fontsize": 8, "color": "0.4"}
    whole.annotate("chance", (0.55, 0.55), (4, -4), **below)
    whole.set_xlim(-0.02, 1)
    whole.set_ylim(0, 1.02)
    corner.set_xscale("log")
    corner.set_xlim(left, 1)
    low = np.floor(20 * lowest) / 20  # a tick at the lower end
    corner.set_ylim(low, 1 + 0.02 * (1 - low))
    for axis in (whole, corner):
        axis.set_xlabel("false positive rate")
        grid_lines(axis, "both")
    corner.set_xlabel("false positive rate (logarithmic)")
    whole.set_ylabel("true positive rate")
    figure.suptitle(title, fontsize=9)
    what = "class against the rest"
    if len(named) < len(curves):
        what = f"the {len(named)} of {len(curves)} classes with the least area"
    figure.legend(
        *whole.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        title=f"{what} (area under the curve)",
    )
    return figure, _rows(curves)


def _rows(curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]]) -> list[dict[str, Any]]:
    return [
        {"class": name, "area": area, "false_positive_rate": a, "true_positive_rate": b}
        for name, (x, y, area) in curves.items()
        for a, b in zip(x.tolist(), y.tolist(), strict=True)
    ]
