"""How every plot looks: size, palette, type, and the rendering to PNG."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from research.report.design import Design, spell
from research.report.wording import is_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Plot = tuple["Figure", list[dict[str, Any]]]  # a figure and the data behind it

WIDTH = 7.0  # inches: a page's text width; legible when shrunk to a column of 3.4
DPI = 160
# Okabe and Ito, "Color Universal Design" (2008), without their yellow, too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BASELINE = "#000000"
LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
MARKERS = "osD^vPX<>*hp"
STYLE = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
}


def styles(arms: Sequence[Any], baseline: Any) -> dict[Any, dict[str, Any]]:
    """Give each arm (or group) a colour, a line and a marker; the baseline is black and solid."""
    others = [arm for arm in arms if arm != baseline]
    chosen = {
        arm: {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": LINES[(i + i // len(COLOURS) + 1) % len(LINES)],
            "marker": MARKERS[(i + 1) % len(MARKERS)],
        }
        for i, arm in enumerate(others)
    }
    return chosen | {baseline: {"color": BASELINE, "linestyle": "-", "marker": MARKERS[0]}}


def facet(design: Design, most: int = 4) -> dict[str, list[str]]:
    """The arms at each level of a design's one axis, by title; at `most` so many levels."""
    if not design.axes:
        return {"": design.arms}
    (field,) = design.axes
    levels = design.levels(field)
    places = np.linspace(0, len(levels) - 1, min(most, len(levels))).round().astype(int)
    at = {level: [a for a, v in design.factors[field].items() if v == level] for level in levels}
    return {f"{design.label(field)} {levels[i]:g}": at[levels[i]] for i in places}


def new_figure(height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def group_legend(
    figure: "Figure", design: Design, style: dict[Any, dict[str, Any]], remark: str
) -> None:
    """One legend of the groups below all axes; of the remark alone where there is one group."""
    named = {spell(g): style[g] for g in design.groups} if design.names else {}
    legend(figure, named, " · ".join(design.label(field) for field in design.names), remark)


def legend(figure: "Figure", named: dict[str, dict[str, Any]], title: str, remark: str) -> None:
    """One legend below all axes: what each style stands for, then a remark."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=name, markersize=4, **style) for name, style in named.items()]
    if remark:
        handles.append(Line2D([], [], linestyle="none", label=remark))
    if not handles:
        return
    sizes = [len(handle.get_label()) + 7 for handle in handles]
    fitting = [  # 110: characters in the width
        columns
        for columns in range(1, min(len(handles), 5) + 1)
        if sum(max(column) for column in np.array_split(sizes, columns)) <= 110
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(fitting, default=1),
        title=title,
    )


def grid_lines(axis: "Axes", which: str) -> None:
    axis.grid(axis=which, color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)


def data_row(panel: dict[str, Any], arm: str, design: Design) -> dict[str, Any]:
    """What a plot shows of an arm, as a row of its data: the levels, the mean and its interval."""
    entry = panel["arms"][arm]
    low, high = entry["ci95"] or (None, None)
    return (
        {"metric": panel["metric"]}
        | {field: levels[arm] for field, levels in design.factors.items()}
        | {key: entry[key] for key in ("n", "diverged", "mean")}
        | {"ci95_low": low, "ci95_high": high}
    )


def mean_line(
    axis: "Axes",
    panel: dict[str, Any],
    arms: Sequence[str | None],
    design: Design,
    shift: float,
    style: dict[str, Any],
    heavy: bool = False,
) -> list[dict[str, Any]]:
    """Draw the means of `arms` with their intervals, side by side from `shift` on, and a line
    through them; return the data. An arm that is None, or has no mean, is left out.
    """
    scale = 100 if is_share(panel["metric"]) else 1
    drawn, rows = [], []
    for position, arm in enumerate(arms):
        if arm is not None and panel["arms"][arm]["mean"] is not None:
            row = data_row(panel, arm, design)
            low, mean, high = (row[key] for key in ("ci95_low", "mean", "ci95_high"))
            below, above = (0, 0) if low is None else (max(mean - low, 0), max(high - mean, 0))
            drawn.append((position + shift, *(scale * v for v in (mean, below, above))))
            rows.append(row)
    if drawn:
        x, y, below, above = np.array(drawn).T
        bar = {"capsize": 2.5, "elinewidth": 1.2, "markersize": 5} if heavy else {}
        bar = {"capsize": 2, "elinewidth": 1, "markersize": 4} | bar
        axis.errorbar(x, y, (below, above), **bar, **style)
    return rows


def chance_line(axis: "Axes", level: float | None, scale: float) -> None:
    """Mark what guessing would score, where it lies within the limits of the axis."""
    low, high = axis.get_ylim()
    if level is not None and low < scale * level < high:
        axis.axhline(scale * level, color="0.5", linewidth=0.8, linestyle=":")
        axis.annotate(
            "chance",
            (1, scale * level),
            (-1, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="0.4",
        )


def png(figure: "Figure") -> bytes:
    """Render a figure with a palette of 256 colours: a third of the bytes, no loss to the eye."""
    from PIL import Image

    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    data = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(data, "PNG", optimize=True, dpi=(DPI, DPI))
    return data.getvalue()
