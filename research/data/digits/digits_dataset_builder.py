"""TFDS builder `digits`: the 1,797 handwritten digits that ship inside scikit-learn."""

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits


class Builder(tfds.core.GeneratorBasedBuilder):
    """Real 8×8 grey images of ten classes, prepared without TensorFlow and without a download.

    The set has no official split: all examples are in `train`, in scikit-learn's order, and
    `research.data.sources` carves validation and test from it.

    References:
        E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
        Repository, 1998, https://doi.org/10.24432/C50P49 (its test part).
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (the type is TFDS's)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of scikit-learn, 0..16 scaled to 0..255.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.24432/C50P49",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        for key, (image, label) in enumerate(zip(images, digits.target, strict=True)):
            # A PIL image: TFDS would need TensorFlow to encode an array.
            yield key, {"image": Image.fromarray(image), "label": int(label)}
