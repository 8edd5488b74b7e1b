"""What a recurrent network does: its states, its gates, its gradient, its attention."""

from typing import TYPE_CHECKING, Any

import numpy as np

from research.report.plots.style import COLOURS, grid_lines, new_figure, styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def states(found: dict[str, Any], title: str) -> "Figure":
    """What each unit says at each step, a panel for each layer."""
    rows, steps = found["rows"], found["steps"]
    figure = new_figure(2.2 * len(rows) + 0.6)
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, row in zip(axes, rows, strict=True):
        values = np.asarray(row["states"], float).T
        limit = max(np.abs(values).max(), 1e-6)
        style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
        image = axis.imshow(values, aspect="auto", **style)
        axis.set_yticks([])
        axis.set_ylabel(f"{row['layer']}: {len(values)} units")
        figure.colorbar(image, ax=axis, pad=0.01, aspect=12)
        words = any(not step.isdigit() for step in steps)
        every = 1 if words else max(1, len(steps) // 15)
        long = words and max(map(len, steps)) > 1
        labels = [step.replace("\n", "↵").replace(" ", "␣") for step in steps][::every]
        axis.set_xticks(range(0, len(steps), every), labels, rotation=90 if long else 0, fontsize=6)
        axis.tick_params(length=0)
    axes[-1].set_xlabel("step")
    remark = "units in the order of their peaks"
    figure.suptitle(f"{title}\nthe state over one sequence ({remark})", fontsize=9)
    return figure


def gates(found: dict[str, Any], title: str) -> "Figure":
    """How often each unit's gate is nearly shut, and nearly open: a point for each unit.

    Units of one place, to 2 %, are one point, as large as they are many; where more than a fifth of
    all are, their number is told.
    """
    rows = found["rows"]
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(1.9 * lines + 0.6)
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(rows) :]:
        axis.set_axis_off()
    for axis, row in zip(axes.flat, rows, strict=False):
        below, above = (100 * np.asarray(row[side], float) for side in ("below", "above"))
        axis.plot((0, 100), (100, 0), color="0.7", linewidth=0.6)
        grid = 2 * np.round(np.stack([below, above], 1) / 2)
        places, counts = np.unique(grid, axis=0, return_counts=True)
        style = {"color": COLOURS[0], "alpha": 0.6, "linewidths": 0, "clip_on": False}
        axis.scatter(*places.T, s=8 + 150 * counts / len(below), **style)
        many = [
            f"{count} of {len(below)} at ({x:g}, {y:g})"
            for (x, y), count in zip(places, counts, strict=True)
            if count > max(1, 0.2 * len(below))
        ]
        style = {"ha": "right", "va": "top", "fontsize": 7, "color": "0.3"}
        axis.text(100, 100, "\n".join(many), **style)  # above the line, where no unit can be
        axis.set_xlim(0, 100)
        axis.set_ylim(0, 100)
        axis.set_aspect("equal")
        axis.set_title(row["gate"].replace("_gate", "").replace("/", ", "), fontsize=8)
    figure.supxlabel("steps below 0.1, nearly shut (%)", fontsize=9)
    figure.supylabel("above 0.9, nearly open (%)", fontsize=9)
    figure.suptitle(f"{title}\nthe gates of each unit", fontsize=9)
    return figure


def state_gradient(found: dict[str, Any], title: str) -> "Figure":
    """The norm of the gradient to the state, by how long before a sequence's end it is."""
    rows = found["rows"]
    every = np.array([v for row in rows for v in row["norm"] if v], float)
    long = max(len(row["norm"]) for row in rows) > 40  # markers would touch
    style = styles([row["layer"] for row in rows], None)
    figure = new_figure(2.6)
    axis = figure.subplots()
    for row in rows:
        norms = np.asarray(row["norm"], float)
        look = style[row["layer"]] | ({"marker": None} if long else {"markersize": 3})
        shown = np.where(norms > 0, norms, np.nan)
        axis.plot(row["before_end"], shown, label=row["layer"], **look)
    if every.size and every.max() > 10 * every.min():
        axis.set_yscale("log")
    axis.invert_xaxis()
    backward = any(row["layer"].endswith("backward") for row in rows)
    ends = "end (backward: to its start)" if backward else "end"
    axis.set_xlabel(f"steps to the sequence's {ends}")
    axis.set_ylabel("norm of ∂loss/∂h")
    grid_lines(axis, "y")
    if len(rows) > 1:
        axis.legend()
    axis.set_title(f"{title}\nthe gradient through time")
    return figure


def attention(found: dict[str, Any], title: str) -> "Figure":
    """Where in the source (across) each word of the translation (down) was taken from."""
    rows = found["rows"]
    columns = min(2, len(rows))
    lines = -(-len(rows) // columns)
    longest = max(len(row["target"]) for row in rows)
    figure = new_figure(lines * (0.16 * min(longest, 24) + 0.9) + 0.3)
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(rows) :]:
        axis.set_axis_off()
    for axis, row in zip(axes.flat, rows, strict=False):
        weights = np.asarray(row["weights"], float)
        axis.imshow(weights, cmap="gray", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(row["source"])), row["source"], rotation=90, fontsize=6)
        axis.set_yticks(range(len(row["target"])), row["target"], fontsize=6)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
    figure.suptitle(f"{title}\nattention (white 1, black 0)", fontsize=9)
    return figure
