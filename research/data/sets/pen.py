"""Handwriting as the way of a pen."""

import io
import pickle
import zipfile

import numpy as np

from research.config import UserError
from research.data import raw
from research.data.arrays import check_finite, classes_of, following, labelled, padded, steps_of
from research.data.dataset import Dataset, Options, divide, few

STROKES = {"kanji": "short_kanji.npz", "omniglot": "omniglot.npz"}
DIGITS = tuple("0123456789")


def strokes(which: str, options: Options) -> Dataset:
    """Drawings to be gone on with: 10,000 Chinese characters, or 30,000 of Omniglot's letters.

    A step is an offset (x, y) and whether the pen is lifted behind it, as in D. Ha and D. Eck, A
    Neural Representation of Sketch Drawings, ICLR 2018. `stroke3/short_kanji.npz` (KanjiVG, © U.
    Apel, CC BY-SA 3.0) and `stroke3/omniglot.npz` (B. Lake et al., Science 2015, whose licence it
    has) of github.com/hardmaru/sketch-rnn-datasets.

    Args:
        which: in `STROKES`.
        options: `length` is the most steps of a drawing.
    """
    path = raw.find(options.data_dir, "stroke3", STROKES[which])
    parts = {}
    for part, key in {"train": "train", "validation": "valid", "test": "test"}.items():
        parts[part] = _read_objects(path, key)
    return drawings(f"strokes/{which}", parts, options)


def drawings(name: str, parts: dict[str, list[np.ndarray]], options: Options) -> Dataset:
    """Return drawings float[T, 3]: `inputs` and `targets` float32[T, 3], `length`.

    `targets` are the steps, `inputs` those before, none at first. The offsets are divided by their
    deviation in training, one number for both directions.

    Raises:
        UserError: another shape, NaN or an infinity, or offsets that are all the same.
    """
    steps = steps_of(name, options.length, parts)
    for part, held in parts.items():
        for i, drawing in enumerate(held):
            if drawing.ndim != 2 or drawing.shape[1] != 3:
                raise UserError(
                    f"{name}, {part}: drawing {i} has the shape {drawing.shape}, expected (T, 3): "
                    "x, y and whether the pen is lifted"
                )
            check_finite(f"{name}, {part}: drawing {i}", drawing)
    deviation = float(np.concatenate(parts["train"])[:, :2].std())
    if not deviation:
        raise UserError(f"{name}, train: found offsets that are all the same, expected drawings")
    scale = np.float32([deviation, deviation, 1])
    splits = {}
    for part, held in parts.items():
        targets, length = padded(f"{name}, {part}", [drawing / scale for drawing in held], steps)
        splits[part] = following(name, targets, length)
    splits["train"] = few(splits["train"], options.train_size)
    scaled = (0.0,) * 3, tuple(scale.tolist())
    return Dataset(name, **splits, task="handwriting", scale=scaled)


def pendigits(options: Options) -> Dataset:
    """Digits as eight points of the pen: 7,494 of 30 writers, 3,498 of 14 others for test.

    E. Alpaydin, F. Alimoglu, Pen-Based Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1996, https://doi.org/10.24432/C5MG6K; CC BY 4.0. `pendigits/pendigits.tra` and
    `pendigits.tes`: 16 numbers from 0 to 100, x and y in turn, then the digit, or ten signs of
    which a 1 stands in its place.
    """
    splits = {}
    for part, suffix in {"train": "tra", "test": "tes"}.items():
        path = raw.find(options.data_dir, "pendigits", f"pendigits.{suffix}")
        rows = raw.read_table(path, ",")
        if len(rows[0]) != 17:
            raise UserError(f"{path}: found {len(rows[0])} fields in a line, expected 17")
        points = raw.numbers(path, [row[:16] for row in rows]).reshape(-1, 8, 2) / 50 - 1
        # The place of the 1 in ten signs is the digit; a digit itself stands in `DIGITS`.
        found = [str(row[16].find("1")) if len(row[16]) == 10 else row[16] for row in rows]
        digits = classes_of(str(path), found, DIGITS)
        inputs, length = padded(f"pendigits, {part}", points, min(options.length or 8, 8))
        splits[part] = labelled("pendigits", inputs, length, digits, DIGITS)
    return Dataset(
        "pendigits",
        **divide(splits.pop("train"), options, **splits),
        class_names=DIGITS,
    )


class _Arrays(pickle.Unpickler):
    """Of NumPy's arrays alone: a pickle could otherwise run any code."""

    def find_class(self, module: str, name: str):
        if (module.split(".")[0], name) in {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy", "_reconstruct"),
            ("_codecs", "encode"),
        }:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is not an array")


def _read_objects(path, key: str) -> list[np.ndarray]:
    """Return the float32 arrays that the array `key` of an .npz file of Python 2 holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            file = io.BytesIO(archive.read(f"{key}.npy"))
        version = np.lib.format.read_magic(file)
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        read_header(file)
        return [np.asarray(each, np.float32) for each in _Arrays(file, encoding="latin1").load()]
    except Exception as error:  # a damaged pickle may raise any
        raise UserError(
            f"{path}: unreadable {key} ({str(error) or type(error).__name__})"
        ) from error
