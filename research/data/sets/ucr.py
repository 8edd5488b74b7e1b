"""Labelled series: motion, speech features, heartbeats, and what else the UCR archive holds."""

import contextlib

import numpy as np

from research.config import UserError
from research.data import raw
from research.data.arrays import classes_of, labelled, padded, standardised, steps_of
from research.data.dataset import Dataset, Options, divide

SETS = (
    *("BasicMotions", "JapaneseVowels", "GunPoint", "ArrowHead", "OSULeaf", "ACSF1"),
    "ItalyPowerDemand",
)
BEATS = ("normal", "R-on-T", "PVC", "SP", "unclassified")
Series = tuple[list[np.ndarray], list[int]]


def ucr(problem: str, options: Options) -> Dataset:
    """A problem of the UCR and UEA archives, in its own training and test split.

    A. Bagnall et al., The UEA multivariate time series classification archive, 2018; H. A. Dau et
    al., The UCR time series archive, 2019: timeseriesclassification.com.
    `ucr/<problem>_TRAIN.ts` and `ucr/<problem>_TEST.ts`, also of github.com/aeon-toolkit/aeon:
    after `@data` a line is an example, its channels and then its class parted by `:`.

    Args:
        problem: in `SETS`; BasicMotions (six channels of a watch, 40/40), JapaneseVowels (12
            cepstral coefficients of nine speakers, 270/370), …
        options: `length` is the most steps of a series.
    """
    parts, class_names = {}, ()
    for part in ("train", "test"):
        path = raw.find(options.data_dir, "ucr", f"{problem}_{part.upper()}.ts")
        series, found, named = _read(path)
        class_names = class_names or named
        if named != class_names:
            raise UserError(
                f"{path}: found the classes {' '.join(named)}, expected {' '.join(class_names)}, "
                "as in training"
            )
        parts[part] = (series, classes_of(str(path), found, class_names))
    return labelled_series(f"ucr/{problem}", parts, class_names, options)


def ecg5000(options: Options) -> Dataset:
    """Heartbeats of 140 steps in five classes; the 500 of the training file, divided at random.

    Y. Chen et al., of PhysioNet's record chf07 (A. Goldberger et al., Circulation 2000), in the UCR
    archive, which states no licence. `ecg5000/ECG5000_TRAIN.txt`: the class, 1 to 5, and 140
    numbers. The archive's test file, of 4,500, is taken where it is there: `ECG5000_TEST.txt`.
    """
    paths = {"train": raw.find(options.data_dir, "ecg5000", "ECG5000_TRAIN.txt")}
    with contextlib.suppress(UserError):
        paths["test"] = raw.find(options.data_dir, "ecg5000", "ECG5000_TEST.txt")
    parts = {part: _beats(path) for part, path in paths.items()}
    return labelled_series("ecg5000", parts, BEATS, options)


def labelled_series(
    name: str, parts: dict[str, Series], class_names: tuple[str, ...], options: Options
) -> Dataset:
    """Return series [T, D] and their classes: `inputs` float32[T, D], `length`, `label`.

    Standardised by channel over the training file.
    """
    scaled, scale = standardised(name, {part: series for part, (series, _) in parts.items()})
    steps = steps_of(name, options.length, scaled)
    splits = {}
    for part, series in scaled.items():
        inputs, length = padded(f"{name}, {part}", series, steps)
        splits[part] = labelled(name, inputs, length, parts[part][1], class_names)
    return Dataset(
        name,
        **divide(splits.pop("train"), options, **splits),
        class_names=class_names,
        scale=scale,
    )


def _beats(path) -> Series:
    rows = raw.read_table(path)
    values = raw.numbers(path, rows)
    for i, row in enumerate(rows):
        if values[i, 0] not in range(1, len(BEATS) + 1):
            raise UserError(
                f"{path}: found the class {row[0]!r} in row {i} of the data, expected 1 to "
                f"{len(BEATS)}"
            )
    return [row[1:, None] for row in values], [int(row[0]) - 1 for row in values]


def _read(path) -> tuple[list[np.ndarray], list[str], tuple[str, ...]]:
    """Return the series [T, D] of a .ts file, their classes and all classes there are."""
    class_names, series, found, data = (), [], [], False
    for number, line in enumerate(raw.read_lines(path), start=1):
        line = line.strip()
        head, *rest = line.split() or [""]
        if head.lower() == "@classlabel":
            class_names = tuple(rest[1:])
        elif head.lower() == "@data":
            data = True
        elif data and line:
            *channels, label = line.split(":")
            fields = [channel.split(",") for channel in channels]
            where = f"{path}, line {number}"
            if len({len(channel) for channel in fields}) != 1:
                raise UserError(
                    f"{where}: found channels of different lengths (or none), "
                    "expected one or more of one length, and a class"
                )
            series.append(raw.numbers(where, fields).T)
            found.append(label.strip())
    if not (class_names and series):
        raise UserError(f"{path}: found no @classLabel or no data, expected a .ts file of classes")
    return series, found, class_names
