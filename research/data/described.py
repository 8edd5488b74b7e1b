"""Large sets that are known by their facts, so that training on them can be planned without them.

- `imagenet2012`: ILSVRC 2012 as TFDS has it, 1,281,167 images for training and 50,000 for
  validation, of 1,000 classes (O. Russakovsky et al., ImageNet Large Scale Visual Recognition
  Challenge, IJCV 2015, table 2).
- `lm1b`: 829,250,940 words, of which 793,471 differ (C. Chelba et al., One Billion Word Benchmark
  for Measuring Progress in Statistical Language Modeling, 2013, §2).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from research.config import UserError
from research.data.dataset import Dataset
from research.data.preprocess import IMAGENET
from research.data.split import Split
from research.data.stream import Stream
from research.data.text import Vocabulary

IMAGES = {
    "imagenet2012": {
        "train": 1_281_167,
        "test": 50_000,
        "classes": 1000,
        "side": 224,
        "statistics": IMAGENET,
    }
}
WORDS = {"lm1b": {"tokens": 829_250_940, "vocabulary": 793_471, "length": 128}}


def described(config: ConfigDict) -> Dataset | None:
    """Return the set that `config.data` names, without a single example; None for any other.

    Images are of `data.image_size`, or 224×224; words of the `data.vocabulary_size` most frequent,
    in chunks of `data.length`, or 128.

    Example:
        >>> len(described(override(get_config(), {"data.name": "imagenet2012"}, "")).train)
        1281167
    """
    name = config.data.name
    if name in IMAGES:
        facts = IMAGES[name]
        side = config.data.image_size or facts["side"]
        sizes = [facts["train"], facts["test"], facts["test"]]
        known = tuple(map(np.float32, facts["statistics"]))
        splits = [DescribedImages(name, size, (side, side, 3), known) for size in sizes]
        classes = config.data.classes or range(facts["classes"])
        return Dataset(name, *splits, class_names=tuple(map(str, classes)))
    if name in WORDS:
        facts = WORDS[name]
        size = config.data.vocabulary_size or facts["vocabulary"]
        words = Vocabulary("word", tuple(map(str, range(size))))
        tokens = np.broadcast_to(np.int32(0), facts["tokens"])  # takes no memory
        stream = DescribedWords(name, tokens, config.data.length or facts["length"])
        return Dataset(name, stream, stream, stream, task="language_model", vocabulary=words)
    return None


def _absent(name: str) -> UserError:
    return UserError(
        f"data.name: {name!r} is known by its facts alone, which is enough for --mode=plan; "
        "expected the set itself, prepared in --data_dir"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class DescribedImages(Split):
    """So many images of one shape, none of which can be read.

    Attributes:
        size: how many.
        image_shape: (H, W, C).
        statistics: mean and deviation per channel, where 255 counts as 1.
    """

    size: int
    image_shape: tuple[int, int, int]
    statistics: tuple[np.ndarray, np.ndarray]

    def __len__(self) -> int:
        return self.size

    @property
    def spec(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shape and the dtype of an image and of a label."""
        return {"image": (self.image_shape, np.dtype(np.uint8)), "label": ((), np.dtype(np.int32))}

    def read(self, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Raise a `UserError`."""
        raise _absent(self.name)


@dataclasses.dataclass(frozen=True, eq=False)
class DescribedWords(Stream):
    """A stream of which only the length is known."""

    def read(self, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Raise a `UserError`."""
        raise _absent(self.name)

    def rows(self, batch_size: int, *, whole: bool):
        """Raise a `UserError`."""
        raise _absent(self.name)
