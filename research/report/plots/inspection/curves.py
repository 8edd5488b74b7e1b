"""What a network does as a whole: curves, bars by layer, the loss around its parameters."""

from typing import TYPE_CHECKING, Any

import numpy as np

from research.report.plots.style import COLOURS, grid_lines, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 40  # layers up to which each has its name


def invariance(found: dict[str, Any], title: str) -> "Figure":
    """Accuracy and consistency by how far the images moved."""
    figure = new_figure(2.6)
    axis = figure.subplots()
    for name, colour in (("consistency", COLOURS[0]), ("accuracy", COLOURS[1])):
        shares = 100 * np.asarray(found[name], float)
        axis.plot(found["pixels"], shares, color=colour, marker="o", markersize=3, label=name)
    axis.set_xlabel("pixels moved (mean over four directions)")
    axis.set_ylabel("images (%)")
    axis.set_xticks(found["pixels"])
    axis.set_ylim(0, 102)
    grid_lines(axis, "y")
    axis.legend()
    axis.set_title(f"{title}\n{found['examples']} images, moved")
    return figure


def dead_units(found: dict[str, Any], title: str) -> "Figure":
    """The share of channels that are always 0, and of values that are, by layer."""
    layers = found["layers"]
    figure = new_figure(0.13 * max(8, len(layers)) + 0.8)
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, name, label in (
        (left, "dead", f"channels that are 0 on all {found['examples']} images (%)"),
        (right, "zero", "values that are 0 (%)"),
    ):
        shares = 100 * np.asarray(found[name], float)
        axis.barh(range(len(layers)), shares, height=0.7, color=COLOURS[0])
        axis.set_xlim(0, 100 if shares.max(initial=0) > 10 else 10)
        axis.set_xlabel(label)
        grid_lines(axis, "x")
    _layers(left, layers)
    figure.suptitle(f"{title}\nunits that do nothing", fontsize=9)
    return figure


def gradient_flow(found: dict[str, Any], title: str) -> "Figure":
    """The norm of the gradient by layer, and beside the parameters' own."""
    from matplotlib.ticker import NullFormatter

    layers = found["layers"]
    figure = new_figure(0.13 * max(8, len(layers)) + 0.8)
    left, right = figure.subplots(1, 2, sharey=True)
    slopes, sizes = (np.asarray(found[k], float) for k in ("gradient_norm", "parameter_norm"))
    slopes = np.where(slopes > 0, slopes, np.nan)
    for axis, values, label in (
        (left, slopes, "‖gradient‖"),
        (right, slopes / sizes, "‖gradient‖ / ‖parameters‖"),
    ):
        axis.plot(values, range(len(layers)), color=COLOURS[0], marker="o", markersize=3)
        axis.set_xscale("log")
        known = values[np.isfinite(values)]
        if known.size:  # whole decades, whose marks have room
            axis.set_xlim(
                10 ** np.floor(np.log10(known.min())), 10 ** np.ceil(np.log10(known.max()))
            )
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(label)
        grid_lines(axis, "both")
    _layers(left, layers)
    figure.suptitle(f"{title}\nwhat reaches each layer", fontsize=9)
    return figure


def landscape(found: dict[str, Any], title: str) -> "Figure":
    """The loss over two filter-normalised directions: contours, and the slice along each."""
    at = np.asarray(found["at"], float)
    loss = np.ma.masked_invalid(np.asarray(found["loss"], float))
    figure = new_figure(3.0)
    left, right = figure.subplots(1, 2)
    if loss.count():
        levels, scale = _levels(loss.compressed())
        style = {"levels": levels, "norm": scale}
        shown = left.contourf(at, at, loss, cmap="viridis", **style)
        if loss.min() < loss.max():
            left.contour(at, at, loss, colors="white", linewidths=0.3, **style)
        bar = figure.colorbar(shown, ax=left, label="loss")
        if scale == "log":
            ticks = levels[:: len(levels) // 5]
            bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
        bar.minorticks_off()
    else:
        left.annotate("not finite anywhere", (0.5, 0.6), xycoords="axes fraction", ha="center")
    left.plot(0, 0, color=COLOURS[1], marker="x", markersize=5)
    left.set_xlim(at[0], at[-1])
    left.set_ylim(at[0], at[-1])
    left.set_aspect("equal")
    left.set_xlabel("first direction")
    left.set_ylabel("second direction")
    middle = len(at) // 2
    slices = loss[middle], loss[:, middle]
    for values, colour, name in zip(slices, COLOURS, ("first direction", "second"), strict=False):
        right.plot(at, values, color=colour, label=name)
    along = np.ma.concatenate(slices).compressed()
    right.set_yscale(_levels(along)[1] if along.size else "linear")
    right.set_xlabel("multiple of the direction")
    right.set_ylabel("loss")
    grid_lines(right, "y")
    right.legend()
    figure.suptitle(f"{title}\nthe loss around the parameters", fontsize=9)
    return figure


def _levels(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Increasing levels that hold finite values, and their scale: by decades where there are."""
    from matplotlib.ticker import MaxNLocator

    low, high = values.min(), values.max()
    if low > 0 and high / low > 10:
        return np.geomspace(low, high, 18), "log"
    if low == high:
        wide = 0.05 * abs(low) or 0.5
        low, high = low - wide, high + wide
    return MaxNLocator(18).tick_values(low, high), "linear"


def _layers(axis: "Axes", layers: list[str]) -> None:
    """Name the layers from the input, above, to the output."""
    every = -(-len(layers) // NAMED)
    axis.set_yticks(range(0, len(layers), every), layers[::every], fontsize=6)
    axis.set_ylim(len(layers) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
