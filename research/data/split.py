"""A split: labelled images by position, decoded on demand, and small enough to pickle."""

import dataclasses
import io
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import numpy as np
from absl import logging
from PIL import Image

from research.config import UserError
from research.data.domain import view

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
class Split:
    """Random access to the examples of one split.

    Safe to use from several threads; pickles without what it remembers, so workers can take it.

    Attributes:
        name: the dataset's name, for error messages.
        source: where the encoded examples come from.
        indices: int64[N], the positions in `source` that belong to this split.
        image_shape: (H, W, C) of every decoded image.
        num_classes: labels lie in [0, num_classes).
        domain: of `research.data.domain`, through which every image is seen.
    """

    name: str
    source: Source
    indices: np.ndarray
    image_shape: tuple[int, int, int]
    num_classes: int
    domain: str = "original"
    _memory: dict = dataclasses.field(default_factory=dict, init=False, repr=False)
    _lock: Any = dataclasses.field(default_factory=threading.RLock, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.indices)

    def __reduce__(self):
        fields = (self.name, self.source, self.indices, self.image_shape, self.num_classes)
        return Split, (*fields, self.domain)

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

    def read(self, positions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Decode some examples: uint8[N, H, W, C] images and int32[N] labels."""
        images = np.empty((len(positions), *self.image_shape), np.uint8)
        labels = np.empty(len(positions), np.int32)
        hint = time.monotonic() + 5
        for row, position in enumerate(positions):
            example = self[position]
            images[row], labels[row] = example["image"], example["label"]
            if time.monotonic() > hint:
                logging.info("decoded %d of %d images of %s", row + 1, len(positions), self.name)
                hint += 5
        return images, labels

    def labels(self) -> np.ndarray:
        """Return the labels alone, int32[N], decoding no image."""

        def read() -> np.ndarray:
            return np.array([self.source.read(int(i))[1] for i in self.indices], np.int32)

        return self.remember("labels", read)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Decode the whole split, once: uint8[N, H, W, C] images and int32[N] labels."""
        return self.remember("arrays", lambda: self.read(range(len(self))))

    def remember(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return `make()`, computed once per key for the life of this object."""
        with self._lock:  # one thread decodes or uploads, the others wait for what it made
            if key not in self._memory:
                self._memory[key] = make()
            return self._memory[key]

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded images and labels."""
        return len(self) * (int(np.prod(self.image_shape)) + np.dtype(np.int32).itemsize)
