"""What a dataset offers, and how validation and test are carved from it where it has none."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from research.config import UserError
from research.data.arrays import Arrays
from research.data.split import Split
from research.data.text import Vocabulary

SPLIT_SEED = 0  # of the permutation that carves splits: never a run's seed


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of examples of one kind; `train.spec` says which.

    Of sequences, `inputs` are int32[T], ids of `vocabulary`, or float32[T, D]; `length` is how many
    of the T are real; what is to be told of them is `label`, `target` or `targets`; `side`,
    float32[S], is what else is known of one.

    Attributes:
        name: as in `data.name`.
        train: what models are fitted to.
        validation: what choices are made on (learning rate, best checkpoint).
        test: what is looked at once.
        task: what a model is to do, where `train.task` does not say; see `research.train.tasks`.
        class_names: the name of each label; () where there are no classes.
        vocabulary: of `inputs` that are tokens, and of `targets` that have none of their own.
        target_vocabulary: of `targets`, where it is another.
        references: by split, the texts that `targets` come from, as published, in order.
        scale: the mean and the deviation, (D,) each, by which series were standardised.
        target: the same set in the domain that models are to be adapted to, where there is one.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    task: str = "classification"
    class_names: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    target_vocabulary: Vocabulary | None = None
    references: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    scale: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    target: "Dataset | None" = None

    @property
    def num_classes(self) -> int:
        """Labels lie in [0, num_classes)."""
        return len(self.class_names)

    def vocabularies(self) -> dict[str, Vocabulary]:
        """Return those that there are, by name: `vocabulary`, `target_vocabulary`."""
        names = ("vocabulary", "target_vocabulary")
        return {name: found for name in names if (found := getattr(self, name)) is not None}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image, which are uint8; a `UserError` where there are none."""
        spec = self.train.spec
        if "image" not in spec:
            raise UserError(
                f"data.name: found {self.name!r}, whose examples are {', '.join(spec)}, where a "
                "set of images is expected"
            )
        return spec["image"][0]


@dataclasses.dataclass(frozen=True)
class Options:
    """What `config.data` asks of a set of sequences.

    Attributes:
        data_dir: the folder of raw files.
        length: steps of an example: of a chunk of a stream, of the past of a forecast, of a probe's
            delay; the most that are kept of anything else. 0: as the set has it.
        horizon: steps ahead that are forecast.
        tokens: `auto` (as the set has it), `char`, `word` or `bpe`.
        vocabulary_size: the most tokens in the vocabulary; 0: as the set has it.
        validation: fraction of the training examples, where the set has no validation split.
        test: fraction of all, where the set has no test split.
        train_size: training examples to keep (of a probe: to make); 0: all.
    """

    data_dir: str | None = None
    length: int = 0
    horizon: int = 24
    tokens: str = "auto"
    vocabulary_size: int = 0
    validation: float = 0.1
    test: float = 0.2
    train_size: int = 0


def divide(
    train: Arrays, options: Options, *, validation: Arrays | None = None, test: Arrays | None = None
) -> dict[str, Arrays]:
    """Return the three splits of a `Dataset`, by name, carving from `train` those not given.

    Raises:
        UserError: more training examples are asked for than there are.
    """
    carved = carve(
        len(train),
        options.validation if validation is None else 0,
        options.test if test is None else 0,
    )
    if validation is None:
        validation = train.part(carved[1])
    if test is None:
        test = train.part(carved[2])
    if len(carved[0]) < len(train):
        train = train.part(carved[0])
    return {"train": few(train, options.train_size), "validation": validation, "test": test}


def few(train: Arrays, size: int) -> Arrays:
    """Return `size` examples, in an order drawn once, so that smaller parts lie in larger; 0: all.

    Raises:
        UserError: there are not so many.
    """
    if size > len(train):
        raise UserError(
            f"data.train_size: found {size}, expected at most {len(train)}, the training examples "
            f"of {train.name}"
        )
    if not size:
        return train
    order = np.random.RandomState(SPLIT_SEED).permutation(len(train))
    return train.part(np.sort(order[:size]))


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
