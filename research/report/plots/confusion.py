"""A confusion matrix, in counts and in shares of each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from research.report.plots.style import WIDTH, Plot, new_figure

NUMBERED = 25  # classes up to which every cell has its number
# White to blue, steep at first: errors are small shares, and should be seen.
COLOURS = [(0, "#ffffff"), (0.02, "#dcebf5"), (0.2, "#a9cce3"), (0.5, "#5fa2cb"), (1, "#00507f")]
NAMED = 60  # classes up to which every row and column has its name


def confusion_plot(confusion: np.ndarray, names: Sequence[str], title: str) -> Plot:
    """Draw what each class (row) is taken for (column): colour by share of the row, and counts.

    Args:
        confusion: int[K, K], rows by label, columns by prediction.
        names: of the K classes.
        title: above the figure.
    """
    from matplotlib.colors import LinearSegmentedColormap as Map

    counts = confusion.sum(1, keepdims=True)
    share = np.where(counts > 0, 100 * confusion / np.maximum(counts, 1), np.nan)
    size = len(names)
    figure = new_figure(min(1.6 + 0.42 * max(size, 4), WIDTH - 0.2))
    axis = figure.subplots()
    axis.set_facecolor("0.93")  # grey: a class without examples
    image = axis.imshow(share, vmin=0, vmax=100, cmap=Map.from_list("shares", COLOURS))
    if size <= NUMBERED:
        font = min(9.0, 140 / size)
        for (i, j), count in np.ndenumerate(confusion):
            if count:
                dark = share[i, j] > 45
                weight = "bold" if i == j else "normal"
                style = {"color": "white" if dark else "black", "fontweight": weight}
                axis.text(j, i, f"{count}", ha="center", va="center", fontsize=font, **style)
    every = max(1, -(-size // NAMED))
    shown = range(0, size, every)
    font = min(8.0, 330 / len(shown))
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    wide = size * max(map(len, names)) > 60
    axis.set_xticks(shown, [names[i] for i in shown], fontsize=font, **(slanted if wide else {}))
    axis.set_yticks(shown, [names[i] for i in shown], fontsize=font)
    axis.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    if size <= NUMBERED:
        axis.grid(which="minor", color="0.85", linewidth=0.5)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("class")
    axis.set_title(title)
    beside = axis.inset_axes((1.02, 0, 0.03, 1))  # as high as the matrix, which is square
    bar = figure.colorbar(image, cax=beside, label="share of the class (%)")
    bar.outline.set_visible(False)
    return figure, _rows(confusion, names)


def _rows(confusion: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"class": name} | {other: int(n) for other, n in zip(names, row, strict=True)}
        for name, row in zip(names, confusion, strict=True)
    ]
