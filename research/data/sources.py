"""Datasets by name, as three splits that are the same for every seed.

dataset = load_dataset("digits")
dataset.train[0]  # {"image": uint8[8, 8, 1], "label": int}
"""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.config import UserError
from research.data import domain as domains
from research.data import sequences, subset
from research.data.dataset import Dataset, Options, carve
from research.data.folder import open_folder
from research.data.images import Images
from research.data.prepared import open_prepared
from research.data.sets.scans import SCANS, scanned


def load_dataset(
    name: str,
    data_dir: str | None = None,
    *,
    image_size: int = 0,
    validation: float = 0.1,
    test: float = 0.2,
    classes: Sequence[int] = (),
    imbalance: float = 1.0,
    train_size: int = 0,
    domain: str = "original",
    target_domain: str = "",
    length: int = 0,
    horizon: int = 24,
    tokens: str = "auto",
    vocabulary_size: int = 0,
) -> Dataset:
    """Open a dataset; images are decoded later, on demand.

    Test is the set's own `test` split, else its `validation`, else carved from `train`; validation
    is always carved from `train`. Load once and share the result: what its splits remember (decoded
    arrays, copies on devices) is shared with it.

    Args:
        name: `digits`; a TFDS set; `folder`, a directory per class in `data_dir`;
            `folder/<name>`, the same in the folder `<name>` of `data_dir`, beside prepared sets;
            `rows/<name>` or `pixels/<name>`, a set of images as sequences; or one of
            `sequences.SEQUENCES`.
        data_dir: folder of prepared TFDS sets (default TFDS_DATA_DIR, else
            ~/tensorflow_datasets), or the folder of images.
        image_size: resize images to this height and width, in pixels, bilinearly; 0 leaves them.
        validation: fraction of `train` held out for validation, rounded up to whole examples.
        test: the same for test, where the set has none of its own.
        classes: those to keep in every split, called 0, 1, … in this order; () keeps all.
        imbalance: what the last class keeps of its examples, see `subset.long_tailed`, in every
            split: where the world is imbalanced, so is what one tests on. 1 keeps all.
        train_size: training examples to keep, see `subset.few`; 0 keeps all.
        domain: of `research.data.domain`, through which every split is seen.
        target_domain: that of `target`; "" for none.
        length: of sequences, as the three below: see `Options`.
        horizon: see there.
        tokens: see there.
        vocabulary_size: see there.

    Raises:
        UserError: a set that is unknown, missing or corrupt, images of varying size without
            `image_size`, fractions that leave nothing to train on, or a part that is not there.

    Example:
        >>> digits = load_dataset("digits")
        >>> len(digits.train), len(digits.validation), len(digits.test)
        (1257, 180, 360)
    """
    kind, slash, inside = name.partition("/")
    of_images = {"image_size": image_size, "classes": tuple(classes), "imbalance": imbalance}
    of_images |= {"domain": domain, "target_domain": target_domain}
    of_sequences = {"length": length, "horizon": horizon, "tokens": tokens}
    of_sequences |= {"vocabulary_size": vocabulary_size}
    if sequences.known(name):
        _only_defaults(name, "images", of_images)
        options = Options(
            data_dir, validation=validation, test=test, train_size=train_size, **of_sequences
        )
        return sequences.load(name, options)
    _only_defaults(name, "sequences", of_sequences)
    if kind in SCANS and slash:
        if target_domain or sequences.known(inside):
            raise UserError(
                f"data.name: found {name!r}, expected a set of images behind {kind}/, for instance "
                f"{kind}/digits, and no transfer.target_domain"
            )
        options = {"validation": validation, "test": test, "train_size": train_size, **of_images}
        return scanned(kind, load_dataset(inside, data_dir, **options))
    if image_size < 0:
        raise UserError(f"data.image_size: found {image_size}, expected pixels, or 0 for as it is")
    domains.check("data.domain", domain)
    domains.check("transfer.target_domain", target_domain or "original")
    if kind == "folder":
        files, shape, class_names = open_folder(
            data_dir, inside if slash else None, measure=not image_size
        )
        official = {"train": files}
    else:
        official, shape, class_names = open_prepared(name, data_dir)
    if "train" not in official:
        raise UserError(f"data.name: {name!r} has no train split, only {', '.join(official)}")
    height, width, channels = shape
    if image_size:
        height = width = image_size
    elif height is None or width is None:
        raise UserError(
            f"data.image_size: the images of {name!r} vary in size; set it, for instance "
            "data.image_size=224"
        )

    def split(source, indices) -> Images:
        whole = Images(name, source, indices, (height, width, channels), len(class_names), domain)
        kept = subset.of_classes(whole, classes) if classes else whole
        return subset.long_tailed(kept, imbalance) if imbalance < 1 else kept

    held_out = next(
        (official[s] for s in ("test", "validation") if _labelled(official.get(s))), None
    )
    train_indices, validation_indices, test_indices = carve(
        len(official["train"]), validation, test if held_out is None else 0
    )
    if held_out is None:
        test_split = split(official["train"], test_indices)
    else:
        test_split = split(held_out, np.arange(len(held_out)))
    train_split = split(official["train"], train_indices)
    if train_size:
        train_split = subset.few(train_split, train_size)
    kept_classes = classes or range(len(class_names))
    dataset = Dataset(
        name=name,
        train=train_split,
        validation=split(official["train"], validation_indices),
        test=test_split,
        class_names=tuple(class_names[k] for k in kept_classes),
    )
    for part in ("train", "validation", "test"):
        if not len(getattr(dataset, part)):
            raise UserError(f"data.classes: found {classes}, of which {part} has no example")
    if not target_domain:
        return dataset
    shifted = {
        part: dataclasses.replace(getattr(dataset, part), domain=target_domain)
        for part in ("train", "validation", "test")
    }
    return dataclasses.replace(dataset, target=dataclasses.replace(dataset, **shifted))


def _only_defaults(name: str, kind: str, found: dict[str, Any]) -> None:
    """Raise a `UserError` for an option of sets of another `kind` that was set."""
    signature = inspect.signature(load_dataset).parameters
    for option, value in found.items():
        if value != signature[option].default:
            field = "transfer.target_domain" if option == "target_domain" else f"data.{option}"
            raise UserError(
                f"{field}: found {value!r} with data.name={name}, expected it to be left out: it "
                f"is of {kind}"
            )


def _labelled(source) -> bool:
    """Whether a split is there and has labels: some competitions withhold them, as -1."""
    return bool(source) and source.read(0)[1] >= 0
