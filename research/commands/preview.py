"""`--mode=preview`: a contact sheet of what augmentation makes of the training images."""

import dataclasses
import inspect
import io
import math
import textwrap
from collections.abc import Sequence

import jax
import numpy as np

from research.commands.train import Datasets
from research.data.augment import AUGMENTATIONS, NEED_COLOUR, augment, check
from research.data.preprocess import channel_statistics, to_unit
from research.data.sources import Dataset
from research.files import write
from research.report.plots.style import STYLE
from research.study import Study

IMAGES, DRAWS, ACROSS = 4, 4, 4  # rows of a block, its columns, and blocks side by side
TILE, DPI, GAP = 0.5, 200, 0.06  # inches of an image; the gap between two, as a share of it
LEAST = 96  # pixels of an image's side: smaller ones are enlarged, pixel by pixel


@dataclasses.dataclass(frozen=True)
class Block:
    """What one augmentation, or several in order, makes of every image in every draw.

    Attributes:
        name: of the augmentation.
        settings: its arguments, spelt.
        images: float[DRAWS, IMAGES, H, W, C] in [0, 1].
        own: float[DRAWS, IMAGES], the share of its own class in each label; None if all are whole.
    """

    name: str
    settings: str
    images: np.ndarray
    own: np.ndarray | None


def preview(study: Study, data_dir: str | None) -> None:
    """Write `preview.png` into the study's workdir: each augmentation alone, then all in order.

    The augmentations are those of the arms, the images the first training images of the first
    arm's data, one to a class; without an augmentation in any arm, every one there is is shown.

    Raises:
        UserError: data or augmentations that cannot be.
    """
    config = next(iter(study.configs.values()))
    dataset = Datasets(data_dir).of(config)
    channels = dataset.image_shape[-1]
    pipelines = dict.fromkeys(tuple(c.data.augment) for c in study.configs.values())
    for pipeline in pipelines:
        check(pipeline, channels)
    single = list(dict.fromkeys(one for pipeline in pipelines for one in pipeline))
    if not single:
        single = [name for name in AUGMENTATIONS if channels == 3 or name not in NEED_COLOUR]
    images, labels = examples(dataset)
    fill = tuple(channel_statistics(dataset.train)[0].tolist())
    declared = [(one,) for one in single] + [p for p in pipelines if len(p) > 1]
    blocks = [_draw(d, images, labels, fill) for d in declared]
    names = [dataset.class_names[label] for label in labels]
    path = write(study.workdir / "preview.png", contact_sheet(dataset.name, images, names, blocks))
    print(f"Preview: {path}")


def examples(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the first training image of each of the first classes: float in [0, 1], and labels."""
    found: dict[int, np.ndarray] = {}
    for position in range(len(dataset.train)):
        example = dataset.train[position]
        found.setdefault(example["label"], example["image"])
        if len(found) == min(IMAGES, dataset.num_classes):
            break
    return np.asarray(to_unit(np.stack(list(found.values())))), np.array(list(found))


def _draw(declared: Sequence[str], images: np.ndarray, labels: np.ndarray, fill) -> Block:
    """Augment the images DRAWS times, in one batch as in training."""
    own_class = np.tile(np.eye(len(labels), dtype=np.float32), (DRAWS, 1))
    batch = np.tile(images, (DRAWS, 1, 1, 1))
    apply = jax.jit(augment, static_argnums=(0, 4))
    found, targets = map(
        np.asarray, apply(tuple(declared), jax.random.key(0), batch, own_class, fill)
    )
    own = (targets * own_class).sum(1).reshape(DRAWS, -1)
    parsed = check(declared)
    return Block(
        name=parsed[0].name if len(parsed) == 1 else "all of them, in order",
        settings=_settings(parsed[0]) if len(parsed) == 1 else ", ".join(p.name for p in parsed),
        images=found.reshape(DRAWS, *images.shape),
        own=own if any(p.mixes for p in parsed) else None,
    )


def _settings(one) -> str:
    """Spell the arguments of an augmentation, the defaults among them."""
    signature = inspect.signature(AUGMENTATIONS[one.name]).parameters.values()
    settings = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}
    settings |= dict(one.settings) | ({"p": one.p} if one.p < 1 else {})
    return ", ".join(f"{name} {value:.3g}" for name, value in settings.items())


def contact_sheet(
    name: str, images: np.ndarray, classes: Sequence[str], blocks: Sequence[Block]
) -> bytes:
    """Lay blocks out beside the originals, `ACROSS` in a row; return a PNG.

    Args:
        name: of the dataset.
        images: float[K, H, W, C] in [0, 1].
        classes: the name of each image's class.
        blocks: what is made of them.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, across = len(images), min(ACROSS, len(blocks))
    lines = math.ceil(len(blocks) / across)
    settings = [textwrap.fill(block.settings, 12 * DRAWS) for block in blocks]
    caption = 0.08 + 0.2 * max(text.count("\n") + 1 for text in settings)  # in tiles, as these are
    left, between, above = 1.8, 0.4, 0.67 + caption
    width = left + 1 + across * (DRAWS + between) + 0.2
    height = 1 + lines * (rows + above) + 0.2
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width * TILE, height * TILE), dpi=DPI)
        FigureCanvasAgg(figure)
        axis = figure.add_axes((0, 0, 1, 1))
        axis.axis("off")
        axis.text(left, 0.5, f"{name}, augmented", fontsize=11, weight="bold", va="center")
        legend = "A row shows one image, a column one draw."
        if any(block.own is not None for block in blocks):
            legend += " Percent: what its own class keeps of a label."
        axis.text(left, 0.95, legend, fontsize=7, color="0.35", va="center")
        for line in range(lines):
            top = 1 + line * (rows + above) + above
            axis.text(left, top - caption, "original", fontsize=7.5, va="top")
            for row, text in enumerate(classes):
                axis.text(left - 0.15, top + row + 0.5, text, fontsize=7.5, ha="right", va="center")
            _show(axis, images[None], left, top)
            for column, block in enumerate(blocks[line * across : (line + 1) * across]):
                x = left + 1 + between + column * (DRAWS + between)
                text, y = settings[line * across + column], top - caption
                axis.text(x, y - 0.07, block.name, fontsize=8.5, weight="bold", va="bottom")
                axis.text(x, y, text, fontsize=6, color="0.35", va="top")
                _show(axis, block.images, x, top)
                if block.own is not None:
                    _shares(axis, block.own, x, top)
        axis.set(xlim=(0, width), ylim=(height, 0))
        data = io.BytesIO()
        figure.savefig(data, format="png")
    return data.getvalue()


def _show(axis, images: np.ndarray, x: float, y: float) -> None:
    """Draw images [columns, rows, H, W, C] as tiles from (x, y) on."""
    columns, rows, height, width, _ = images.shape
    for column in range(columns):
        for row in range(rows):
            tile = images[column, row]
            times = max(1, math.ceil(LEAST / min(height, width)))
            tile = tile.repeat(times, 0).repeat(times, 1)
            tile = np.broadcast_to(tile, (*tile.shape[:2], 3)) if tile.shape[-1] == 1 else tile
            side = (1 - GAP) / max(height, width)
            extent = (x + column, x + column + side * width, y + row + side * height, y + row)
            axis.imshow(tile, vmin=0, vmax=1, extent=extent, aspect="auto")


def _shares(axis, own: np.ndarray, x: float, y: float) -> None:
    """Write on each tile how much of its label is its row's class."""
    from matplotlib.patheffects import withStroke

    for column, shares in enumerate(own):
        for row, share in enumerate(shares):
            axis.text(
                *(x + column + 0.06, y + row + 0.88, f"{100 * share:.0f} %"),
                fontsize=5.5,
                color="white",
                path_effects=[withStroke(linewidth=1.2, foreground="black")],
            )
