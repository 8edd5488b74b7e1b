"""What a network sees: images, and maps of their pixels."""

from typing import TYPE_CHECKING, Any

import numpy as np

from research.report.plots.style import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 16  # kernels side by side
MAP = "viridis"  # of what is not negative
SIGNED = "RdBu_r"


def kernels(found: dict[str, Any], title: str) -> "Figure":
    """The filters of the first convolution: in colour where they see three channels."""
    kernel = np.asarray(found["kernel"], float)
    size, colour = kernel.shape[-1], kernel.shape[2] == 3
    columns = min(ROW, size)
    rows = -(-size // columns)
    figure = new_figure(rows * 0.44 + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False)
    limit = np.abs(kernel).max()
    for i, axis in enumerate(axes.flat):
        _bare(axis)
        if i >= size:
            axis.set_axis_off()
        elif colour:  # grey is 0
            axis.imshow(np.clip(0.5 + kernel[..., i] / (2 * np.abs(kernel[..., i]).max()), 0, 1))
        else:
            mean = kernel[..., i].mean(-1)
            axis.imshow(mean, cmap=SIGNED, vmin=-limit, vmax=limit)
    scale = "grey is 0, each on a scale of its own" if colour else f"blue −{limit:.2g}, white 0"
    figure.suptitle(f"{title}\nthe first convolution's filters ({scale})", fontsize=9)
    return figure


def features(found: dict[str, Any], title: str) -> "Figure":
    """The most active feature maps, a row for each endpoint or image."""
    rows = found["rows"]
    columns = 1 + max(len(row["channels"]) for row in rows)
    figure = new_figure(len(rows) * 0.98 + 0.35)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            axis.set_axis_off()
        _image(line[0], found["images"][row["image"]])
        line[0].set_title(_short(row["endpoint"]), fontsize=6)
        maps = np.asarray(row["maps"], float)
        for k, axis in zip(range(maps.shape[-1]), line[1:], strict=False):
            axis.imshow(maps[..., k], cmap=MAP)
            axis.set_title(f"{row['channels'][k]}", fontsize=6)
    figure.suptitle(f"{title}\nthe most active channels", fontsize=9)
    return figure


def receptive_field(found: dict[str, Any], title: str) -> "Figure":
    """The effective receptive field of each endpoint, in the square of the theoretical one."""
    rows = found["rows"]
    figure = new_figure(2.4)
    for axis, row in zip(np.atleast_1d(figure.subplots(1, len(rows))), rows, strict=True):
        seen = np.asarray(row["gradient"], float)
        most = seen.max()
        axis.imshow(np.sqrt(seen / (most or 1)), cmap="magma", vmin=0, vmax=1)
        _frame(axis, row["first"], row["size"], seen.shape)
        _bare(axis)
        effective = f"effective {row['effective_size']:.1f} pixels" if most > 0 else "no gradient"
        text = f"theory {row['size'][1]:g}, {effective}"
        axis.set_title(f"{_short(row['endpoint'])}\n{text}", fontsize=7)
    remark = "√(gradient) in the theoretical field, dotted where it goes on"
    figure.suptitle(f"{title}\nwhat the central unit sees ({remark})", fontsize=9)
    return figure


def occlusion(found: dict[str, Any], title: str) -> "Figure":
    """The images most affected, the drop in probability by covered place, and the accuracy."""
    images = found["images"]
    figure = new_figure(4.3)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.35, 1))
    axes = top.subplots(2, len(images), squeeze=False)
    drops = np.asarray(found["drops"], float)
    limit = max(np.nanmax(np.abs(drops)), 1e-6)
    for i, image in enumerate(images):
        _image(axes[0, i], image)
        _verdict(axes[0, i], found, i)
        overlay = axes[1, i].imshow(drops[i], cmap=SIGNED, vmin=-limit, vmax=limit)
        _bare(axes[1, i])
    top.colorbar(overlay, ax=axes.ravel().tolist(), label="drop in probability", pad=0.01)
    left, right = bottom.subplots(1, 2)
    drop = np.asarray(found["drop_map"], float)
    scale = max(np.nanmax(np.abs(drop)), 1e-6)
    shown = left.imshow(drop, cmap=SIGNED, vmin=-scale, vmax=scale)
    left.set_title("mean drop in the class's probability", fontsize=8)
    bottom.colorbar(shown, ax=left)
    shown = right.imshow(100 * np.asarray(found["accuracy_map"], float), cmap=MAP)
    right.set_title(f"accuracy (%), {100 * found['accuracy']:.1f} uncovered", fontsize=8)
    bottom.colorbar(shown, ax=right)
    for axis in (left, right):
        _bare(axis)
    patch = f"a patch of {found['patch']}×{found['patch']}, {found['examples']} images"
    figure.suptitle(f"{title}\nwhat {patch} hides", fontsize=9)
    return figure


def saliency(found: dict[str, Any], title: str) -> "Figure":
    """Images, and where their predicted class is decided, by each method."""
    named = {"gradient": "gradient", "smooth_gradient": "SmoothGrad", "grad_cam": "Grad-CAM"}
    methods = {key: name for key, name in named.items() if key in found}
    figure = new_figure(1.15 * (1 + len(methods)) + 0.5)
    axes = figure.subplots(1 + len(methods), len(found["images"]), squeeze=False)
    for i, image in enumerate(found["images"]):
        _image(axes[0, i], image)
        _verdict(axes[0, i], found, i)
        for axis, (key, name) in zip(axes[1:, i], methods.items(), strict=True):
            values = np.asarray(found[key][i], float)
            if key == "grad_cam":
                _image(axis, image, alpha=0.55)
                axis.imshow(values, cmap="inferno", alpha=0.6)
            else:
                axis.imshow(values, cmap="gray", vmax=np.percentile(values, 99.5))
            _bare(axis)
            if i == 0:
                axis.set_ylabel(name, fontsize=8)
    figure.suptitle(f"{title}\nwhere the predicted class is decided", fontsize=9)
    return figure


def _frame(axis: "Axes", first: Any, size: Any, shape: tuple[int, ...]) -> None:
    """Frame a field as far as the image goes, its sides dotted where it reaches beyond."""
    low, end = np.asarray(first, float) - 0.5, np.asarray(shape) - 0.5
    high = low + np.asarray(size, float)
    (top, left), (bottom, right) = np.maximum(low, -0.5), np.minimum(high, end)
    sides = {
        "top": ((left, right), (top, top), low[0] < -0.5),
        "bottom": ((left, right), (bottom, bottom), high[0] > end[0]),
        "left": ((left, left), (top, bottom), low[1] < -0.5),
        "right": ((right, right), (top, bottom), high[1] > end[1]),
    }
    for xs, ys, beyond in sides.values():
        style = {"color": COLOURS[5], "linewidth": 1.6, "linestyle": ":" if beyond else "-"}
        axis.plot(xs, ys, clip_on=False, **style)
    axis.set_xlim(-0.5, end[1])
    axis.set_ylim(end[0], -0.5)


def _image(axis: "Axes", image: Any, **style: Any) -> None:
    pixels = np.asarray(image, np.uint8)
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if pixels.shape[-1] == 1 else {}
    axis.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3], **grey, **style)
    _bare(axis)


def _verdict(axis: "Axes", found: dict[str, Any], i: int) -> None:
    """The class above an image, and what it is taken for where that is another."""
    meant, taken = found["classes"][i], found["predicted"][i]
    wrong = meant != taken
    text = f"{meant}, taken for {taken}" if wrong else meant
    axis.set_title(text, fontsize=7, color=COLOURS[1] if wrong else "black")


def _short(endpoint: str) -> str:
    """A name that fits above a small picture."""
    return endpoint if len(endpoint) <= 22 else "…" + endpoint[-21:]


def _bare(axis: "Axes") -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
