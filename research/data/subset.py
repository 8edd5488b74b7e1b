"""Parts of a split of images: some classes, a long tail, a few; the same part for every seed."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from research.config import UserError
from research.data.images import Images, Source

SUBSET_SEED = 1  # of the order in which examples are kept: never a run's seed


@dataclasses.dataclass(frozen=True)
class Relabelled:
    """A `Source` in which the class `classes[k]` of another is called k."""

    source: Source
    classes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> tuple[bytes, int]:
        encoded, label = self.source.read(index)
        return encoded, self.classes.index(label)

    def where(self, index: int) -> str:
        return self.source.where(index)


def of_classes(split: Images, classes: Sequence[int]) -> Images:
    """Return the examples of `classes`, which are called 0, 1, … in the order given.

    Raises:
        UserError: a class twice, one that is not there, or fewer than two.
    """
    known = range(split.num_classes)
    if len(classes) < 2 or len({*classes}) < len(classes) or not {*classes} <= {*known}:
        raise UserError(
            f"data.classes: found {tuple(classes)}, expected at least two different ones of the "
            f"{split.num_classes} classes of {split.name}, counted from 0"
        )
    return dataclasses.replace(
        split,
        source=Relabelled(split.source, tuple(classes)),
        indices=split.indices[np.isin(split.labels(), classes)],
        num_classes=len(classes),
    )


def long_tailed(split: Images, imbalance: float) -> Images:
    """Return a split whose classes grow rare: class k of K keeps the share ρ^(k/(K−1)) of its own.

    Rounded to whole examples, and never to none. ρ is `imbalance`: what the last class keeps.

    References:
        Y. Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, §5.1.
    """
    labels, ranks = split.labels(), _ranks(split.labels())
    shares = imbalance ** (np.arange(split.num_classes) / max(1, split.num_classes - 1))
    kept = np.maximum(1, np.rint(shares * np.bincount(labels, minlength=split.num_classes)))
    return dataclasses.replace(split, indices=split.indices[ranks < kept[labels]])


def few(split: Images, size: int) -> Images:
    """Return `size` examples, as evenly over the classes as there are; smaller parts lie in larger.

    Raises:
        UserError: there are not so many, or fewer are asked for than there are classes.
    """
    if not split.num_classes <= size <= len(split):
        raise UserError(
            f"data.train_size: found {size}, expected {split.num_classes} (one a class) to "
            f"{len(split)}, the training examples of {split.name}"
        )
    labels = split.labels()
    # First every class's first example, then every class's second, and so on.
    order = np.lexsort((labels, _ranks(labels)))
    return dataclasses.replace(split, indices=np.sort(split.indices[order[:size]]))


def _ranks(labels: np.ndarray) -> np.ndarray:
    """Return how many of its own class come before each example, in an order drawn once."""
    # RandomState, not Generator: NumPy promises that its stream never changes (NEP 19).
    order = np.random.RandomState(SUBSET_SEED).permutation(len(labels))
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        ranks[members] = np.arange(len(members))
    return ranks
