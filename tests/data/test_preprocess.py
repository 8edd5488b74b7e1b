"""Normalisation against scikit-learn and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from research.checks import CHOICES
from research.config import UserError
from research.data.images import Images
from research.data.preprocess import (
    NORMALIZATIONS,
    channel_statistics,
    normalization,
    normalize,
    to_unit,
)


@pytest.fixture(scope="module")
def coloured(digits):
    """The training split of digits, as if it were in colour."""
    train = digits.train
    return Images(train.name, train.source, train.indices, (8, 8, 3), 10)


def test_statistics_and_standardisation_against_scikit_learn(digits):
    images, _ = digits.train.arrays().values()
    mean, std = channel_statistics(digits.train)
    scaler = StandardScaler().fit(images.reshape(-1, 1) / 255)
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(std, scaler.scale_, rtol=1e-6)
    found = normalize(to_unit(images), *normalization("dataset", digits.train))
    assert found.dtype == np.float32 and found.shape == images.shape
    expected = scaler.transform(images.reshape(-1, 1) / 255).reshape(images.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert normalize(to_unit(images[:2]), mean, std, jnp.bfloat16).dtype == jnp.bfloat16


def test_statistics_of_a_sample(digits):
    images, _ = digits.train.arrays().values()
    sample = images[[0, 314, 628, 942, 1256]] / 255
    mean, std = channel_statistics(digits.train, limit=5)
    np.testing.assert_allclose([mean, std], [[sample.mean()], [sample.std()]], rtol=1e-6)


def test_the_others(coloured):
    images, _ = coloured.arrays().values()
    unit = images / 255
    expected = {
        "mean": unit - unit.mean((0, 1, 2)),
        "unit": unit,
        "symmetric": 2 * unit - 1,
        "imagenet": (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    }
    assert {*expected, "dataset"} == {*NORMALIZATIONS} == {*CHOICES["data.normalize"]}
    for name, values in expected.items():
        found = normalize(to_unit(images), *normalization(name, coloured))
        np.testing.assert_allclose(found, values, atol=1e-5)


def test_what_cannot_be(digits):
    with pytest.raises(UserError, match=r"'imagenet', whose.* 3 channels, and images of 1; .*unit"):
        normalization("imagenet", digits.train)
    with pytest.raises(UserError, match=r"data\.normalize: found 'dateset'.*'dataset'"):
        normalization("dateset", digits.train)


def test_augmentation_fills_with_what_standardisation_turns_into_zero(digits):
    """As before augmentation saw raw images: padding is exactly zero in what the model sees."""
    mean, std = normalization("dataset", digits.train)
    fill = jnp.broadcast_to(jnp.asarray(mean), (1, 8, 8, 1))
    assert not normalize(fill, mean, std).any()
