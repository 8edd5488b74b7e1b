"""Augmentation against NumPy, statistics against NumPy and scikit-learn."""

import jax
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from research.config import UserError
from research.data.augment import augment, channel_statistics, flip, pad_crop, standardize


@pytest.fixture(scope="module")
def images(digits):
    return digits.train.arrays()[0][:256].astype(np.float32)


def test_flip_mirrors_half_of_the_images(images):
    flipped = np.asarray(flip(jax.random.key(0), images))
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert 96 < same.sum() < 160  # 128 ± 4 deviations


@pytest.mark.parametrize(("size", "pad"), [(8, 1), (32, 4)])
def test_pad_crop_is_a_random_window_of_the_padded_image(images, size, pad):
    images = np.tile(images, (1, size // 8, size // 8, 3))
    cropped = np.asarray(pad_crop(jax.random.key(1), images))
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = [(row, column) for row in range(2 * pad + 1) for column in range(2 * pad + 1)]
    windows = np.stack([padded[:, r : r + size, c : c + size] for r, c in corners])
    matches = (windows == cropped).all((2, 3, 4))
    assert matches.any(0).all()
    rows, columns = np.array(corners)[matches.argmax(0)].T
    assert set(rows) == set(columns) == set(range(2 * pad + 1))
    assert not np.array_equal(rows, columns)


def test_augment_is_pure_keyed_and_jittable(images):
    names = ("flip", "pad_crop")
    once = augment(names, jax.random.key(2), images)
    jitted = jax.jit(augment, static_argnums=0)(names, jax.random.key(2), images)
    np.testing.assert_array_equal(once, jitted)
    assert not np.array_equal(once, augment(names, jax.random.key(3), images))
    np.testing.assert_array_equal(augment((), jax.random.key(2), images), images)


def test_augment_applies_in_order_each_with_its_own_key(images):
    key = jax.random.key(4)
    expected = images
    for position, function in enumerate((pad_crop, flip)):
        expected = function(jax.random.fold_in(key, position), expected)
    np.testing.assert_array_equal(augment(("pad_crop", "flip"), key, images), expected)


def test_unknown_augmentation(images):
    with pytest.raises(UserError, match=r"data\.augment: found 'flipp'.*did you mean 'flip'"):
        augment(("flipp",), jax.random.key(0), images)


def test_statistics_and_standardisation_against_scikit_learn(digits):
    images, _ = digits.train.arrays()
    mean, std = channel_statistics(digits.train)
    scaler = StandardScaler().fit(images.reshape(-1, 1) / 255)
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(std, scaler.scale_, rtol=1e-6)
    found = standardize(images, mean, std)
    assert found.dtype == np.float32 and found.shape == images.shape
    expected = scaler.transform(images.reshape(-1, 1) / 255).reshape(images.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert standardize(images[:2], mean, std, jax.numpy.bfloat16).dtype == jax.numpy.bfloat16


def test_statistics_of_a_sample(digits):
    images, _ = digits.train.arrays()
    sample = images[[0, 314, 628, 942, 1256]] / 255
    mean, std = channel_statistics(digits.train, limit=5)
    np.testing.assert_allclose([mean, std], [[sample.mean()], [sample.std()]], rtol=1e-6)
