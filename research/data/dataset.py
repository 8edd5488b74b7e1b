"""What a dataset offers, and how validation and test are carved from it where it has none."""

import dataclasses
import math

import numpy as np

from research.config import UserError
from research.data.split import Split

SPLIT_SEED = 0  # of the permutation that carves splits: never a run's seed


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Three splits of examples of one kind.

    Attributes:
        name: as in `data.name`.
        train: what models are fitted to.
        validation: what choices are made on (learning rate, best checkpoint).
        test: what is looked at once.
        class_names: the name of each label; () where there are no classes.
        target: the same set in the domain that models are to be adapted to, where there is one.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...] = ()
    target: "Dataset | None" = None

    @property
    def num_classes(self) -> int:
        """Labels lie in [0, num_classes)."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image, of a set of images; they are uint8."""
        return self.train.spec["image"][0]


def carve(size: int, validation: float, test: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Divide `range(size)` at random, always in the same way, into train, validation and test.

    Returns:
        Three sorted, disjoint int64 arrays that cover the range; validation and test are of
        ceil(size · fraction) examples.

    Raises:
        UserError: the fractions are negative or leave nothing to train on.
    """
    for field, fraction in (("data.validation", validation), ("data.test", test)):
        if not 0 <= fraction < 1:
            raise UserError(f"{field}: found {fraction}, expected a fraction in [0, 1)")
    # Rounded first, so that 0.07 · 100 = 7.000000000000001 makes 7 examples.
    counts = [math.ceil(round(size * fraction, 6)) for fraction in (test, validation)]
    if sum(counts) >= size:
        raise UserError(
            f"data.validation: {validation} for validation and {test} for test leave nothing to "
            f"train on of {size} examples; expected smaller fractions"
        )
    # RandomState, not Generator: NumPy promises that its stream never changes (NEP 19).
    order = np.random.RandomState(SPLIT_SEED).permutation(size)
    parts = np.split(order, np.cumsum(counts))
    test_part, validation_part, train_part = (np.sort(part).astype(np.int64) for part in parts)
    return train_part, validation_part, test_part
