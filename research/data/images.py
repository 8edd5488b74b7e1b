"""Splits of labelled images, decoded on demand."""

import dataclasses
import io
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from absl import logging
from PIL import Image

from research.config import UserError
from research.data.domain import view
from research.data.split import Split

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels → PIL's name for them


class Source(Protocol):
    """Encoded images and labels by position: what a kind of dataset has to offer."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded image and the label of one example."""

    def where(self, index: int) -> str:
        """Name an example, for error messages: its file, or its place in the set."""


def decode_image(encoded: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode to uint8[H, W, C]; another size is resized bilinearly, aspect ratio not kept."""
    height, width, channels = shape
    with Image.open(io.BytesIO(encoded)) as image:
        if channels == 3 and "transparency" in image.info:
            image = image.convert("RGBA")  # PIL warns of a palette's transparency otherwise
        image = image.convert(MODES[channels])
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Images(Split):
    """Images and their labels: an example is `{"image": uint8[H, W, C], "label": int32}`.

    Attributes:
        source: where the encoded examples come from.
        indices: int64[N], the positions in `source` that belong to this split.
        image_shape: (H, W, C) of every decoded image.
        num_classes: labels lie in [0, num_classes).
        domain: of `research.data.domain`, through which every image is seen.
    """

    source: Source
    indices: np.ndarray
    image_shape: tuple[int, int, int]
    num_classes: int
    domain: str = "original"

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def spec(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shape and the dtype of an image and of a label."""
        return {"image": (self.image_shape, np.dtype(np.uint8)), "label": ((), np.dtype(np.int32))}

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Return `{"image": uint8[H, W, C], "label": int}` of example `i`.

        Raises:
            UserError: the image is unreadable, or its label is out of range.
        """
        index = int(self.indices[i])
        try:
            encoded, label = self.source.read(index)
            image = view(decode_image(encoded, self.image_shape), self.domain, index)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{self.source.where(index)}: unreadable image ({problem})") from error
        if not 0 <= label < self.num_classes:
            raise UserError(
                f"data.name: {self.name} has the label {label} ({self.source.where(index)}), "
                f"expected 0 to {self.num_classes - 1}"
            )
        return {"image": image, "label": label}

    def read(self, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Decode some examples: `{"image": uint8[N, H, W, C], "label": int32[N]}`."""
        images = np.empty((len(positions), *self.image_shape), np.uint8)
        labels = np.empty(len(positions), np.int32)
        hint = time.monotonic() + 5
        for row, position in enumerate(positions):
            example = self[position]
            images[row], labels[row] = example["image"], example["label"]
            if time.monotonic() > hint:
                logging.info("decoded %d of %d images of %s", row + 1, len(positions), self.name)
                hint += 5
        return {"image": images, "label": labels}

    def labels(self) -> np.ndarray:
        """Return the labels alone, int32[N], decoding no image."""

        def read() -> np.ndarray:
            return np.array([self.source.read(int(i))[1] for i in self.indices], np.int32)

        return self.remember("labels", read)
