"""Images as sequences: of rows, or of pixels."""

import math

import numpy as np

from research.data.arrays import Arrays
from research.data.dataset import Dataset
from research.data.split import Split

SCANS = ("rows", "pixels")


def scanned(scan: str, images: Dataset) -> Dataset:
    """Return a set of images [H, W, C] as sequences: `inputs` float32[T, D], `length`, `label`.

    `rows` are H steps of W·C numbers in [0, 1], from above, as in Q. V. Le, N. Jaitly, G. Hinton, A
    Simple Way to Initialize Recurrent Networks of Rectified Linear Units, 2015; `pixels` H·W of C,
    line by line.
    """
    height, width, _ = images.image_shape
    steps = height if scan == "rows" else height * width

    def view(split: Split) -> Arrays:
        held = split.arrays()
        shape = (len(split), steps, math.prod(images.image_shape) // steps)
        inputs = np.float32(held["image"].reshape(shape)) / 255
        length = np.full(len(split), steps, np.int32)
        return Arrays(
            f"{scan}/{images.name}", {"inputs": inputs, "length": length, "label": held["label"]}
        )

    return Dataset(
        f"{scan}/{images.name}",
        view(images.train),
        view(images.validation),
        view(images.test),
        class_names=images.class_names,
    )
